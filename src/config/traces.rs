//! `[traces]`: to which collector spans are sent, how many, and what is in them.

use std::time::Duration;

use super::files;
use super::problem::Mistake;
use super::section::{Section, Text};
use crate::net::tls::{self, ClientTls, IdentityFiles};
use crate::telemetry::traces::{Collector, Reveal, TraceSettings};

/// Most characters of a service's name.
const SERVICE_NAME_MAX: usize = 128;

/// Whose traces they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The proxy's, whose requests come from strangers and are about records.
    Proxy,
    /// The custodian's: it knows everybody who asks by a certificate.
    Custodian,
}

pub(super) fn read(section: Section<'_>, role: Role) -> Option<TraceSettings> {
    let anywhere = section.flag("insecure_any_address");
    let collector = section.required("endpoint").and_then(|text| {
        let collector = text.parsed(Collector::parse)?;
        if anywhere == Some(false) && !collector.is_tls() && !collector.is_here() {
            text.note(Mistake::TracesInTheClear);
        }
        Some(collector)
    });
    let tls = transport(&section, collector.as_ref());
    let (usual, trusted) = match role {
        Role::Proxy => ("claviger-proxy", section.flag("trust_client")),
        Role::Custodian => ("claviger-custodian", Some(true)),
    };
    let service_name = section.text("service_name").map_or(Some(usual), |text| text.parsed(service_name));
    let sample_ratio = section.ratio("sample_ratio", 1.0);
    let reveal = if role == Role::Proxy { reveal(&section) } else { Some(Reveal::default()) };
    let queue_max = section.number("queue_max", 64..=65_536, 4096);
    let batch_max = section.number("batch_max", 1..=4096, 512);
    let interval = Duration::from_millis(section.number("interval_ms", 10..=60_000, 1000));
    let timeout = Duration::from_secs(section.number("timeout_s", 1..=60, 5));
    section.finish();
    anywhere?;
    Some(TraceSettings {
        tls: tls?,
        trust_client: trusted?,
        sample_ratio: sample_ratio?,
        reveal: reveal?,
        queue_max,
        batch_max,
        interval,
        timeout,
        ..TraceSettings::new(collector?, service_name?)
    })
}

/// Whom to trust, and how to show ourselves.
fn transport(section: &Section<'_>, collector: Option<&Collector>) -> Option<ClientTls> {
    let ca_file = section.text("ca_file");
    let by_certificate = section.has("certificate_file") || section.has("key_file");
    let pair = files::optional_pair(section, "certificate_file", "key_file");
    if collector.is_some_and(|collector| !collector.is_tls()) {
        let certificate = pair.as_ref().map(|(certificate, _)| certificate);
        let unused: Vec<&Text<'_>> = ca_file.iter().chain(certificate).collect();
        unused.iter().for_each(|text| text.note(Mistake::UnusedCaFile));
        return unused.is_empty().then(ClientTls::default).filter(|_| !by_certificate);
    }
    let ca_file = match &ca_file {
        None => Some(None),
        Some(text) => {
            let path = text.path();
            let alone = ClientTls { ca_file: Some(path.clone()), identity: None };
            text.parsed(|_| tls::client_config(&alone)).map(|_| Some(path))
        }
    };
    let identity = if by_certificate { Some(read_identity(&pair?)?) } else { None };
    Some(ClientTls { ca_file: ca_file?, identity })
}

fn read_identity((certificate, key): &(Text<'_>, Text<'_>)) -> Option<IdentityFiles> {
    let identity = IdentityFiles { certificates: certificate.path(), key: key.path() };
    certificate.parsed(|_| files::open(&identity.certificates))?;
    key.parsed(|_| files::open(&identity.key))?;
    certificate.parsed(|_| tls::client_config(&ClientTls { ca_file: None, identity: Some(identity.clone()) }))?;
    certificate.parsed(|_| tls::check_lifetime(&identity))?;
    Some(identity)
}

fn service_name(text: &str) -> Result<&str, Mistake> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    let right = (1..=SERVICE_NAME_MAX).contains(&text.len()) && text.bytes().all(legal);
    if right { Ok(text) } else { Err(Mistake::ServiceName) }
}

/// What may be in spans beside operations, results and times.
fn reveal(section: &Section<'_>) -> Option<Reveal> {
    let (mut reveal, mut right) = (Reveal::default(), true);
    for text in section.texts("reveal") {
        match text.text {
            "bucket" => reveal.bucket = true,
            "key" => reveal.key = true,
            "principal" => reveal.principal = true,
            "peer" => reveal.peer = true,
            _ => {
                text.note(Mistake::Choice(vec!["bucket", "key", "principal", "peer"]));
                right = false;
            }
        }
    }
    right.then_some(reveal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{GOOD, folder, load_text};
    use crate::net::tests::Ca;

    /// The settings that the section gives, or what is reported of it.
    fn read(section: &str) -> Result<Option<TraceSettings>, Vec<String>> {
        let folder = folder();
        let ca = Ca::new(folder.path(), "ca");
        ca.issue("claviger", &["claviger"]);
        match load_text(&folder, &format!("{GOOD}{section}")) {
            Ok(config) => Ok(config.traces),
            Err(problems) => Err(problems.to_string().lines().map(str::to_owned).collect()),
        }
    }

    const HERE: &str = "[traces]\nendpoint = \"http://127.0.0.1:4318/v1/traces\"\n";
    const THERE: &str = "[traces]\nendpoint = \"https://collector.example.org/v1/traces\"\n";

    #[test]
    fn they_are_off_unless_there_is_a_section() {
        assert!(read("").expect("right").is_none());
        let traces = read(HERE).expect("right").expect("on");
        assert_eq!((traces.service_name.as_str(), traces.sample_ratio), ("claviger-proxy", 1.0));
        assert!(!traces.trust_client && traces.reveal == Reveal::default());
        let all = "sample_ratio = 0.25\nservice_name = \"records\"\ntrust_client = true\nreveal = [\"bucket\", \"peer\"]\n\
                   queue_max = 64\nbatch_max = 1\ninterval_ms = 10\ntimeout_s = 1\n";
        let traces = read(&format!("{HERE}{all}")).expect("right").expect("on");
        assert_eq!((traces.service_name.as_str(), traces.sample_ratio), ("records", 0.25));
        assert!(traces.trust_client && traces.reveal.bucket && traces.reveal.peer && !traces.reveal.key);
        assert_eq!((traces.queue_max, traces.batch_max, traces.timeout), (64, 1, Duration::from_secs(1)));
        for ratio in ["0", "1", "0.0", "1e-3"] {
            let traces = read(&format!("{HERE}sample_ratio = {ratio}\n")).expect(ratio).expect("on");
            assert_eq!(Some(traces.sample_ratio), ratio.parse().ok());
        }
    }

    #[test]
    fn https_has_a_ca_and_a_certificate_if_they_are_given() {
        let traces = read(THERE).expect("right").expect("on");
        assert!(traces.tls.ca_file.is_none() && traces.tls.identity.is_none());
        let files = "ca_file = \"ca.pem\"\ncertificate_file = \"claviger.pem\"\nkey_file = \"claviger.key\"\n";
        let traces = read(&format!("{THERE}{files}")).expect("right").expect("on");
        assert!(traces.tls.ca_file.is_some_and(|file| file.ends_with("ca.pem")) && traces.tls.identity.is_some());
    }

    #[test]
    fn all_mistakes_are_told_with_their_keys() {
        for (section, key) in [
            ("[traces]\n".to_owned(), "traces"),
            ("[traces]\nendpoint = \"127.0.0.1:4318\"\n".to_owned(), "traces.endpoint"),
            (HERE.replace("127.0.0.1", "192.0.2.1"), "traces.endpoint"),
            (format!("{HERE}insecure_any_address = 1\n"), "traces.insecure_any_address"),
            (format!("{HERE}ca_file = \"ca.pem\"\n"), "traces.ca_file"),
            (
                format!("{HERE}certificate_file = \"claviger.pem\"\nkey_file = \"claviger.key\"\n"),
                "traces.certificate_file",
            ),
            (format!("{THERE}ca_file = \"absent.pem\"\n"), "traces.ca_file"),
            (format!("{THERE}certificate_file = \"claviger.pem\"\n"), "traces.certificate_file"),
            (
                format!("{THERE}certificate_file = \"absent.pem\"\nkey_file = \"claviger.key\"\n"),
                "traces.certificate_file",
            ),
            (format!("{HERE}sample_ratio = 1.5\n"), "traces.sample_ratio"),
            (format!("{HERE}sample_ratio = -1\n"), "traces.sample_ratio"),
            (format!("{HERE}sample_ratio = nan\n"), "traces.sample_ratio"),
            (format!("{HERE}sample_ratio = \"all\"\n"), "traces.sample_ratio"),
            (format!("{HERE}service_name = \"a b\"\n"), "traces.service_name"),
            (format!("{HERE}trust_client = 1\n"), "traces.trust_client"),
            (format!("{HERE}reveal = [\"secret\"]\n"), "traces.reveal"),
            (format!("{HERE}reveal = \"bucket\"\n"), "traces.reveal"),
            (format!("{HERE}queue_max = 0\n"), "traces.queue_max"),
            (format!("{HERE}timeout_s = 61\n"), "traces.timeout_s"),
            (format!("{HERE}headers = \"x\"\n"), "traces.headers"),
        ] {
            let told = read(&section).expect_err(&section);
            assert!(told.len() == 1 && told[0].contains(&format!("[{key}] ")), "{section}: {told:?}");
        }
        let all = read("[traces]\nendpoint = \"x\"\nsample_ratio = 2\nservice_name = \"\"\nreveal = [\"x\", \"y\"]\n");
        assert_eq!(all.expect_err("wrong").len(), 5);
        let anywhere = HERE.replace("127.0.0.1", "192.0.2.1");
        assert!(read(&format!("{anywhere}insecure_any_address = true\n")).is_ok());
    }
}
