//! How long certificates are still valid.

use std::convert::Infallible;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;

use super::metrics::{Registry, Sample};
use crate::net::seldom::Seldom;
use crate::net::tls::{IdentityFiles, Lifetime, own_certificate};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often the same is told of a certificate.
const TELL_EVERY: Duration = Duration::from_secs(3600);
/// A certificate is about to end when less than a tenth of its time is left, and less than this.
const NEAR_MAX: time::Duration = time::Duration::days(14);

/// Seconds until a certificate is no longer valid, negative after that; `None` if it cannot be read.
pub fn seconds_left(certificate: &CertificateDer<'_>) -> Option<f64> {
    Some((Lifetime::of(certificate)?.ends - OffsetDateTime::now_utc()).as_seconds_f64())
}

/// Registers how long each certificate in use is valid, as its file is at the time of the scrape: certificates are renewed in place.
pub fn register(registry: &mut Registry, certificates: Vec<(&'static str, IdentityFiles)>) {
    let help = "Time until a certificate in use is no longer valid; the role says towards whom it is shown";
    registry.read_gauges("claviger_certificate_expiry_seconds", help, move || {
        let left = |files| seconds_left(&own_certificate(files).ok()?);
        let samples =
            certificates.iter().filter_map(|(role, files)| Some(Sample::new(left(files)?).label("role", role)));
        samples.collect::<Vec<_>>()
    });
}

/// Tells when a certificate is about to end or has ended, as its file is then, until it is dropped. The role says towards whom it is shown.
pub async fn keep_telling(certificates: Vec<(&'static str, IdentityFiles)>) -> Infallible {
    let mut certificates: Vec<_> = certificates.into_iter().map(|(role, files)| Watched::new(role, files)).collect();
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let now = OffsetDateTime::now_utc();
        certificates.iter_mut().for_each(|certificate| certificate.look(now));
    }
}

/// How much of its time a certificate has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Enough,
    Little,
    Nothing,
}

impl Left {
    fn of(lifetime: &Lifetime, now: OffsetDateTime) -> Self {
        let (left, whole) = (lifetime.ends - now, lifetime.ends - lifetime.begins);
        let near = NEAR_MAX.min(whole / 10_i32);
        match left {
            left if left < time::Duration::ZERO => Self::Nothing,
            left if left < near => Self::Little,
            _ => Self::Enough,
        }
    }
}

struct Watched {
    role: &'static str,
    files: IdentityFiles,
    before: Left,
    seldom: Seldom,
}

impl Watched {
    fn new(role: &'static str, files: IdentityFiles) -> Self {
        Self { role, files, before: Left::Enough, seldom: Seldom::new(TELL_EVERY) }
    }

    fn look(&mut self, now: OffsetDateTime) {
        // A file that cannot be read is told of where it is used.
        let Some(lifetime) = own_certificate(&self.files).ok().and_then(|one| Lifetime::of(&one)) else { return };
        let left = Left::of(&lifetime, now);
        if std::mem::replace(&mut self.before, left) != left {
            self.seldom = Seldom::new(TELL_EVERY);
        }
        let (role, file, ends) = (self.role, self.files.certificates.display(), lifetime.ends);
        match left {
            Left::Enough => {}
            _ if !self.seldom.is_due() => {}
            Left::Little => tracing::warn!(role, %file, %ends, "the certificate ends soon: put a new one in its place"),
            Left::Nothing => {
                tracing::error!(role, %file, %ends, "the certificate has ended: put a new one in its place")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::Ca;
    use crate::telemetry::metrics::TextForm;

    #[test]
    fn a_certificate_has_little_left_when_a_tenth_of_its_time_or_two_weeks_are() {
        let begins = OffsetDateTime::UNIX_EPOCH;
        let left_of = |days: i64, at_hours: i64| {
            let lifetime = Lifetime { begins, ends: begins + time::Duration::days(days) };
            Left::of(&lifetime, begins + time::Duration::hours(at_hours))
        };
        let (year_hours, two_weeks_hours) = (365 * 24, 14 * 24);
        for (days, at_hours, left) in [
            (365, 0, Left::Enough),
            (365, year_hours - two_weeks_hours, Left::Enough),
            (365, year_hours - two_weeks_hours + 1, Left::Little),
            (365, year_hours, Left::Little),
            (365, year_hours + 1, Left::Nothing),
            (10, 9 * 24, Left::Enough),
            (10, 9 * 24 + 1, Left::Little),
        ] {
            assert_eq!(left_of(days, at_hours), left, "{days} days, {at_hours} h on");
        }
    }

    #[test]
    fn the_certificate_that_ends_first_is_seen_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Ca::new(folder.path(), "ca");
        let files = ca.issue("proxy", &["proxy"]);
        let left = seconds_left(&own_certificate(&files).expect("reads")).expect("a certificate");
        assert!(left > 0.0, "{left}");
        assert_eq!(seconds_left(&CertificateDer::from(vec![1, 2, 3])), None);
        let mut registry = Registry::default();
        let absent = IdentityFiles { certificates: folder.path().join("absent"), key: folder.path().join("absent") };
        register(&mut registry, vec![("server", files), ("custodian-client", absent)]);
        let text = registry.encode(TextForm::Prometheus).expect("writes");
        assert!(text.contains("claviger_certificate_expiry_seconds{role=\"server\"} "), "{text}");
        assert!(!text.contains("custodian-client"), "nothing is known of it");
    }
}
