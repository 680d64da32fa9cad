//! Databases that are locked, slow, full, gone or something else.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::database::{Database, impatient, postgres_settings, put, settings};
use super::on_both;
use super::server::server;
use crate::custodian::store::sql::Mode;
use crate::custodian::store::{
    Corruption, Kind, PostgresSettings, SealedStore, Store as _, StoreError, StoreSettings, connect_postgres,
    create_sqlite, open_sqlite,
};

on_both!(a_locked_database_is_busy_within_the_time_out, a_call_that_is_given_up_leaves_nothing_behind);

/// Runs `call`, which must end in time.
async fn in_time<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let (began, limit) = (Instant::now(), impatient().call_timeout);
    let result = call.await;
    // A sealed store makes a few calls for one of its own.
    assert!(began.elapsed() < 3 * limit, "took {:?}", began.elapsed());
    result
}

async fn a_locked_database_is_busy_within_the_time_out(database: Database) {
    let (root, store) = database.sealed().await;
    let hasty = SealedStore::open(database.again(impatient()).await.expect("opens"), &root).await.expect("opens");
    let (locked, mut is_locked) = watch::channel(false);
    let (unlock, mut may_unlock) = watch::channel(false);
    let holder = Arc::clone(&database.store);
    let holder = tokio::spawn(async move {
        let hold = holder.call(Mode::Write, move |session| {
            Box::pin(async move {
                session.execute("UPDATE records SET version = version WHERE kind = 'epoch'", Vec::new()).await?;
                locked.send(true).expect("the test listens");
                may_unlock.wait_for(|may| *may).await.expect("the test tells");
                Ok(())
            })
        });
        hold.await
    });
    is_locked.wait_for(|is| *is).await.expect("locks");
    assert!(matches!(in_time(hasty.change(&[put("alice", 0, b"")])).await, Err(StoreError::Busy)));
    assert_eq!(hasty.list(Kind::Grant).await.expect("reading goes on").records.len(), 0);
    unlock.send(true).expect("the holder listens");
    holder.await.expect("does not panic").expect("commits");
    hasty.change(&[put("alice", 0, b"")]).await.expect("goes on");
    assert_eq!(store.list(Kind::Grant).await.expect("whole").records.len(), 1);
}

async fn a_call_that_is_given_up_leaves_nothing_behind(database: Database) {
    let (root, store) = database.sealed().await;
    let hasty = database.again(impatient()).await.expect("opens");
    for _ in 0..3 {
        let stuck = hasty.call(Mode::Write, |session| {
            Box::pin(async move {
                session.execute("DELETE FROM records", Vec::new()).await?;
                std::future::pending::<Result<(), StoreError>>().await
            })
        });
        assert!(matches!(in_time(stuck).await, Err(StoreError::TimedOut)));
    }
    let stuck = hasty.call(Mode::Write, |session| {
        Box::pin(async move {
            session.execute("DELETE FROM records", Vec::new()).await?;
            std::future::pending::<Result<(), StoreError>>().await
        })
    });
    assert!(tokio::time::timeout(Duration::from_millis(300), stuck).await.is_err(), "dropped by the caller");
    store.change(&[put("alice", 0, b"")]).await.expect("nothing is locked");
    let again = SealedStore::open(hasty, &root).await.expect("nothing is gone");
    again.change(&[put("bob", 0, b"")]).await.expect("its connections are in order");
}

/// Stands between a store and the server, and can stop passing anything on, or cut.
struct Wire {
    port: u16,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Passing,
    Silent,
    Cut,
}

impl Wire {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let (state, watched) = watch::channel(State::Passing);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, watched.clone()));
            }
        });
        Self { port, state }
    }

    fn is(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn pass(mut client: TcpStream, mut state: watch::Receiver<State>) {
    let mut server = TcpStream::connect(("127.0.0.1", server().port)).await.expect("the server is there");
    loop {
        let now = *state.borrow_and_update();
        let goes_on = match now {
            State::Passing => tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => false,
                changed = state.changed() => changed.is_ok(),
            },
            State::Silent => state.changed().await.is_ok(),
            State::Cut => false,
        };
        if !goes_on {
            return;
        }
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_or_goes_away_is_told_in_time_and_comes_back() {
    let database = Database::postgres().await;
    let (root, _) = database.sealed().await;
    let wire = Wire::new().await;
    let far = connect_postgres(&postgres_settings(wire.port, database.name()), impatient()).await.expect("connects");
    let far = SealedStore::open(Arc::new(far), &root).await.expect("opens");
    wire.is(State::Silent);
    for _ in 0..2 {
        let refused = in_time(far.epoch()).await.err();
        assert!(matches!(refused, Some(StoreError::TimedOut | StoreError::Unavailable(_))), "{refused:?}");
        assert!(refused.is_some_and(|refused| refused.outcome_is_unknown()));
    }
    wire.is(State::Passing);
    far.change(&[put("alice", 0, b"")]).await.expect("is back");
    wire.is(State::Cut);
    let refused = in_time(far.epoch()).await.err();
    assert!(matches!(refused, Some(StoreError::TimedOut | StoreError::Unavailable(_))), "{refused:?}");
    wire.is(State::Passing);
    far.change(&[put("bob", 0, b"")]).await.expect("is back");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND datname = current_database()";
    database.sql(end, Vec::new()).await;
    far.change(&[put("carol", 0, b"")]).await.expect("connects again");
    assert_eq!(far.list(Kind::Grant).await.expect("whole").records.len(), 3);
}

#[tokio::test]
async fn a_server_that_is_not_there_or_has_no_such_database_is_unavailable() {
    let free = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a port");
    let refused = in_time(connect_postgres(&postgres_settings(free.port(), "none"), impatient())).await.err();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
    let refused = in_time(connect_postgres(&postgres_settings(server().port, "none"), impatient())).await.err();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_server_is_known_by_its_certificate() {
    let database = Database::postgres().await;
    let connect = async |authority| {
        let given =
            PostgresSettings { root_certificate: Some(authority), ..postgres_settings(server().port, database.name()) };
        connect_postgres(&given, impatient()).await
    };
    connect(server().authority()).await.expect("the authority that signed it");
    let refused = connect(server().folder.join("other-ca.pem")).await.err();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_is_not_a_private_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("other.db");
    let open = async || open_sqlite(&path, impatient()).await.err().expect("refused");
    assert!(matches!(open().await, StoreError::File { .. }), "not there");
    assert!(!path.exists());
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut other = SqliteConnection::connect(&url).await.expect("another program's");
    other.execute("CREATE TABLE t (x)").await.expect("makes");
    other.close().await.expect("closes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let before = std::fs::read(&path).expect("reads");
    assert!(matches!(open().await, StoreError::NotAStore));
    assert_eq!(std::fs::read(&path).expect("reads"), before);
    std::fs::write(&path, "some text").expect("writes");
    assert!(matches!(open().await, StoreError::NotAStore));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
    assert!(matches!(open().await, StoreError::OpenToOthers { mode: 0o640, .. }));
    assert!(matches!(create_sqlite(&path, impatient()).await, Err(StoreError::File { .. })), "never replaced");
    assert_eq!(std::fs::read(&path).expect("reads"), b"some text");
}

#[tokio::test]
async fn the_file_and_its_companions_are_private_and_an_empty_one_is_taken() {
    let database = Database::sqlite().await;
    database.sealed().await;
    let names: Vec<_> = std::fs::read_dir(database.folder()).expect("lists").flatten().collect();
    assert!(names.len() >= 2, "the log beside it is there");
    for file in names {
        let mode = file.metadata().expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
    // As left by a power failure right after it was made.
    let empty = database.folder().join("empty.db");
    std::fs::write(&empty, "").expect("writes");
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let store = open_sqlite(&empty, settings()).await.expect("opens");
    store.close().await;
    open_sqlite(&empty, settings()).await.expect("opens again");
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_spoils_nothing() {
    let database = Database::sqlite().await;
    let (root, _) = database.sealed().await;
    database.store.close().await;
    let one = StoreSettings { connections_max: 1, ..settings() };
    let store = database.again(one).await.expect("opens");
    let sealed = SealedStore::open(store.clone(), &root).await.expect("opens");
    sealed.change(&[put("alice", 0, b"one")]).await.expect("writes");
    // No more pages than there are now; the setting lasts as long as the connection.
    store.call(Mode::Single, |session| session.execute("PRAGMA max_page_count = 1", Vec::new())).await.expect("sets");
    let refused = sealed.change(&[put("bob", 0, &[7; 100_000])]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(sealed.list(Kind::Grant).await.expect("whole").records.len(), 1);
    sealed.change(&[put("bob", 0, &[7; 100_000])]).await.expect("a new connection has room");
}

#[tokio::test]
async fn damaged_pages_are_corruption() {
    let database = Database::sqlite().await;
    let (root, store) = database.sealed().await;
    for number in 0..40 {
        store.change(&[put(&number.to_string(), 0, &[7; 2000])]).await.expect("writes");
    }
    database.store.close().await;
    let mut bytes = std::fs::read(database.path()).expect("reads");
    let length = bytes.len();
    bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(database.path(), &bytes).expect("writes");
    let opened = match database.again(settings()).await {
        Ok(store) => SealedStore::open(store, &root).await.map(drop),
        Err(refused) => Err(refused),
    };
    assert!(matches!(opened, Err(StoreError::Corrupt(Corruption::Database) | StoreError::NotAStore)), "{opened:?}");
    assert!(length > 4096 * 10);
}
