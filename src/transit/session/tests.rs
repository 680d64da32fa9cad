//! Sessions on a paused clock: how often the custodian is bothered, whatever it answers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::*;
use crate::net::tests::write_file;

const HOUR: Duration = Duration::from_secs(3600);

/// How the custodian answers each call about tokens.
#[derive(Clone, Copy)]
enum Answer {
    Lease(u64, bool),
    Denied,
    Unreachable,
    Never,
}

struct Fake {
    login: Answer,
    renewal: Answer,
    logins: AtomicU32,
    renewals: AtomicU32,
    look_ups: AtomicU32,
    next: AtomicU64,
}

impl Fake {
    fn new(login: Answer, renewal: Answer) -> Self {
        let zero = AtomicU32::default;
        Self { login, renewal, logins: zero(), renewals: zero(), look_ups: zero(), next: AtomicU64::default() }
    }

    async fn answer(answer: Answer) -> Result<Lease, CustodyError> {
        match answer {
            Answer::Lease(seconds, renewable) => Ok(Lease { seconds, renewable }),
            Answer::Denied => Err(CustodyError::Denied),
            Answer::Unreachable => Err(TransitError::Unavailable { status: 500 }.unreachable()),
            Answer::Never => std::future::pending().await,
        }
    }
}

/// Shared, so that a test sees the counts.
impl TokenCalls for Arc<Fake> {
    fn log_in(&self) -> BoxFuture<'_, Result<Grant, CustodyError>> {
        Box::pin(async {
            self.logins.fetch_add(1, Ordering::SeqCst);
            let lease = Fake::answer(self.login).await?;
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let token = SecretBytes::new(format!("token-{number}").into_bytes()).expect("not empty");
            Ok(Grant { token, lease })
        })
    }

    fn renew<'a>(&'a self, _: &'a Token) -> BoxFuture<'a, Result<Lease, CustodyError>> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        Box::pin(Fake::answer(self.renewal))
    }

    fn look_up<'a>(&'a self, _: &'a Token) -> BoxFuture<'a, Result<Lease, CustodyError>> {
        self.look_ups.fetch_add(1, Ordering::SeqCst);
        Box::pin(Fake::answer(self.login))
    }
}

struct Counts {
    logins: u32,
    renewals: u32,
    look_ups: u32,
}

fn counts(fake: &Fake) -> Counts {
    let [logins, renewals, look_ups] =
        [&fake.logins, &fake.renewals, &fake.look_ups].map(|count| count.load(Ordering::SeqCst));
    Counts { logins, renewals, look_ups }
}

/// An hour in which a caller asks for the token twice a second, and is refused with it each time if `refused`.
async fn an_hour(login: Answer, renewal: Answer, refused: bool) -> Counts {
    let fake = Arc::new(Fake::new(login, renewal));
    let session = Arc::new(Session::by_login(Arc::clone(&fake)));
    let keeper = Keeper::start(Arc::clone(&session));
    let begun = Instant::now();
    while begun.elapsed() < HOUR {
        let asked = tokio::time::timeout(Duration::from_secs(2), session.token()).await;
        if let (true, Ok(Ok(token))) = (refused, &asked) {
            let _ = tokio::time::timeout(Duration::from_secs(2), session.replaced(token)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    drop(keeper);
    counts(&fake)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_once_per_lease_and_never_had_anew() {
    let counts = an_hour(Answer::Lease(600, true), Answer::Lease(600, true), false).await;
    assert_eq!(counts.logins, 1);
    assert!((7..=12).contains(&counts.renewals), "{}", counts.renewals);
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_few_ticks_does_not_run_out() {
    let counts = an_hour(Answer::Lease(16, true), Answer::Lease(16, true), false).await;
    assert_eq!(counts.logins, 1, "it is renewed when that is due, not at the next tick");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_renewed_is_had_anew_before_it_ends() {
    for renewal in [Answer::Denied, Answer::Lease(10, true)] {
        let counts = an_hour(Answer::Lease(600, true), renewal, false).await;
        assert!((7..=13).contains(&counts.logins), "{}", counts.logins);
        assert!(counts.renewals <= counts.logins);
    }
    let counts = an_hour(Answer::Lease(600, false), Answer::Denied, false).await;
    assert!((7..=13).contains(&counts.logins) && counts.renewals == 0, "{}", counts.logins);
}

#[tokio::test(start_paused = true)]
async fn an_endless_token_is_left_alone() {
    let counts = an_hour(Answer::Lease(0, true), Answer::Denied, false).await;
    assert_eq!((counts.logins, counts.renewals), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_whatever_the_custodian_answers() {
    let answers =
        [Answer::Lease(0, true), Answer::Lease(1, true), Answer::Lease(60, true), Answer::Lease(u64::MAX, false)];
    let answers = answers.into_iter().chain([Answer::Denied, Answer::Unreachable, Answer::Never]);
    for login in answers.clone() {
        for renewal in answers.clone() {
            for refused in [false, true] {
                let counts = an_hour(login, renewal, refused).await;
                // One in 5 s for the pauses between half of the cap of 10 s and all of it; one in 2 s for the shortest ticks.
                assert!(counts.logins <= 3600 / 5 + 10, "{} logins", counts.logins);
                assert!(counts.renewals <= 3600 / 2, "{} renewals", counts.renewals);
                assert_eq!(counts.look_ups, 0);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_share_one_login() {
    let fake = Arc::new(Fake::new(Answer::Lease(600, true), Answer::Denied));
    let session = Session::by_login(Arc::clone(&fake));
    let tokens = futures_util::future::join_all((0..100).map(|_| session.token())).await;
    let all = tokens.into_iter().collect::<Result<Vec<_>, _>>().expect("logged in");
    assert!(all.iter().all(|token| token.is_same(&all[0])));
    assert_eq!(counts(&fake).logins, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once_and_then_only_after_a_while() {
    let fake = Arc::new(Fake::new(Answer::Lease(600, true), Answer::Denied));
    let session = Session::by_login(Arc::clone(&fake));
    let first = session.token().await.expect("logs in");
    assert!(session.replaced(&first).await.expect("asked").is_none(), "it is new");
    tokio::time::advance(TOKEN_AGE_MIN).await;
    let second = session.replaced(&first).await.expect("asked").expect("another");
    assert!(!first.is_same(&second));
    let third = session.replaced(&first).await.expect("asked").expect("the one at hand");
    assert!(third.is_same(&second) && counts(&fake).logins == 2);
    assert!(session.replaced(&second).await.expect("asked").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_is_told_and_not_repeated_at_once() {
    let fake = Arc::new(Fake::new(Answer::Denied, Answer::Denied));
    let session = Session::by_login(Arc::clone(&fake));
    for _ in 0..10 {
        assert!(matches!(session.token().await, Err(CustodyError::Denied)));
    }
    assert_eq!(counts(&fake).logins, 1);
    let fake = Arc::new(Fake::new(Answer::Unreachable, Answer::Denied));
    let session = Session::by_login(Arc::clone(&fake));
    for _ in 0..10 {
        assert!(matches!(session.token().await, Err(CustodyError::Unreachable(_))));
    }
    assert_eq!(counts(&fake).logins, 1);
}

#[tokio::test]
async fn a_file_is_read_again_and_a_token_outlives_a_file_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let fake = Arc::new(Fake::new(Answer::Lease(600, true), Answer::Denied));
    let session = Session::from_file(Arc::clone(&fake), path.clone());
    assert!(matches!(session.token().await, Err(CustodyError::Unreachable(_))), "there is no file yet");
    assert!(matches!(session.token().await, Err(CustodyError::Unreachable(_))), "it is not read again at once");

    let next = |content: &'static [u8]| {
        write_file(folder.path(), "token", content);
        tokio::time::sleep(READ_EVERY + Duration::from_millis(50))
    };
    next(b"one\n").await;
    let one = session.token().await.expect("read");
    assert_eq!(one.header().as_bytes(), b"one");
    assert!(!format!("{:?}", one.header()).contains("one"));
    next(b"\n").await;
    assert!(session.token().await.expect("kept").is_same(&one), "an empty file changes nothing");
    assert!(session.replaced(&one).await.expect("asked").is_none());
    next(b"two").await;
    let two = session.replaced(&one).await.expect("asked").expect("another");
    assert_eq!(two.header().as_bytes(), b"two");
    assert_eq!(counts(&fake).logins, 0);

    session.tend().await;
    session.tend().await;
    let seen = counts(&fake);
    assert_eq!((seen.look_ups, seen.renewals), (1, 0), "its lease is known, and long");
}
