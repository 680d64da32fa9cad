//! `[custodian]` of kind `transit`: a custodian on the network, and how it knows us.

use std::time::Duration;

use super::files;
use super::problem::Mistake;
use super::section::Section;
use crate::net::tls::{self, ClientTls, IdentityFiles};
use crate::transit::settings::{ADDRESSES_MAX, Address, Authentication, Mount, SettingsError, TransitSettings};
use crate::transit::token_file;

/// Bytes of a certificate role's name.
const ROLE_MAX: usize = 128;
/// A day: longer than any lease.
const GRACE_MAX_S: u64 = 24 * 3600;

/// Reads all but `kind`. Files are looked into; nobody is connected to.
pub(super) fn read(section: &Section<'_>) -> Option<TransitSettings> {
    let addresses = addresses(section);
    let mount = section.text("mount").map_or_else(|| Mount::parse("transit").ok(), |text| text.parsed(Mount::parse));
    let ca_file = ca_file(section, addresses.as_deref());
    let authentication = authentication(section, addresses.as_deref());
    let deadline = Duration::from_millis(section.number("deadline_ms", 1..=60_000, 2000));
    let (watch, watch_grace) = watch(section);
    let (authentication, identity) = authentication?;
    let tls = ClientTls { ca_file: ca_file?, identity };
    let settings = TransitSettings::new(addresses?, tls);
    Some(TransitSettings { mount: mount?, authentication, deadline, watch: watch?, watch_grace, ..settings })
}

/// Whether the custodian's watch is held open, and how long leased keys work on when it is lost.
fn watch(section: &Section<'_>) -> (Option<bool>, Option<Duration>) {
    let watch = section.flag("watch");
    let grace_s = section.number("watch_grace_s", 0..=GRACE_MAX_S, 0);
    let grace = section.has("watch_grace_s").then(|| Duration::from_secs(grace_s));
    if grace.is_some() && watch == Some(false) {
        section.note_at("watch_grace_s", Mistake::OtherHalf("watch"));
    }
    (watch, grace)
}

fn addresses(section: &Section<'_>) -> Option<Vec<Address>> {
    let urls = section.texts("urls");
    if !section.has("urls") {
        section.note(Mistake::Missing("urls"));
    } else if section.is_empty_list("urls") {
        section.note_at("urls", Mistake::EmptyList);
    } else if urls.len() > ADDRESSES_MAX {
        section.note_at("urls", SettingsError::Addresses);
    }
    let addresses: Vec<_> = urls.iter().filter_map(|text| text.parsed(Address::parse)).collect();
    (addresses.len() == urls.len() && (1..=ADDRESSES_MAX).contains(&urls.len())).then_some(addresses)
}

/// The only CAs to trust, if there are such: `Some(None)` stands for the web's.
fn ca_file(section: &Section<'_>, addresses: Option<&[Address]>) -> Option<Option<std::path::PathBuf>> {
    let Some(text) = section.text("ca_file") else { return Some(None) };
    if addresses.is_some_and(|addresses| !addresses.iter().any(Address::is_tls)) {
        text.note(Mistake::UnusedCaFile);
        return None;
    }
    let tls = ClientTls { ca_file: Some(text.path()), identity: None };
    text.parsed(|_| tls::client_config(&tls))?;
    Some(tls.ca_file)
}

/// Exactly one way, and the certificate if it is by certificate.
fn authentication(
    section: &Section<'_>,
    addresses: Option<&[Address]>,
) -> Option<(Authentication, Option<IdentityFiles>)> {
    let token_file = section.text("token_file");
    let by_certificate = section.has("certificate_file") || section.has("key_file");
    let pair = files::optional_pair(section, "certificate_file", "key_file");
    let login = login(section, by_certificate);
    if let Some(token_file) = token_file {
        if by_certificate {
            token_file.note(Mistake::TwoAuthentications);
            return None;
        }
        let path = token_file.path();
        token_file.parsed(|_| files::open(&path))?;
        token_file.parsed(|_| token_file::read(&path))?;
        login?;
        return Some((Authentication::TokenFile(path), None));
    }
    if !by_certificate && !section.has("token_file") {
        section.note(Mistake::NoAuthentication);
    }
    let (certificate, key) = pair?;
    let identity = IdentityFiles { certificates: certificate.path(), key: key.path() };
    certificate.parsed(|_| files::open(&identity.certificates))?;
    key.parsed(|_| files::open(&identity.key))?;
    certificate.parsed(|_| tls::client_config(&ClientTls { ca_file: None, identity: Some(identity.clone()) }))?;
    certificate.parsed(|_| tls::check_lifetime(&identity))?;
    if addresses.is_some_and(|addresses| !addresses.iter().all(Address::is_tls)) {
        certificate.note(SettingsError::NoCertificate);
        return None;
    }
    let authentication = match login? {
        Some((mount, role)) => Authentication::CertificateLogin { mount, role },
        None => Authentication::Certificate,
    };
    Some((authentication, Some(identity)))
}

/// Where, and as which role, the certificate is exchanged for a token: `Some(None)` when it is not.
fn login(section: &Section<'_>, by_certificate: bool) -> Option<Option<(Mount, Option<String>)>> {
    let (mount, role) = (section.text("login_mount"), section.text("login_role"));
    if let Some(text) = mount.as_ref().or(role.as_ref()).filter(|_| !by_certificate) {
        text.note(Mistake::OtherHalf("certificate_file"));
        return None;
    }
    let Some(mount) = mount else {
        let Some(role) = role else { return Some(None) };
        role.note(Mistake::OtherHalf("login_mount"));
        return None;
    };
    let mount = mount.parsed(Mount::parse);
    let role = match role {
        Some(role) => Some(role.parsed(role_name)?),
        None => None,
    };
    Some(Some((mount?, role)))
}

fn role_name(text: &str) -> Result<String, Mistake> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=ROLE_MAX).contains(&text.len()) && text.bytes().all(legal) {
        Ok(text.to_owned())
    } else {
        Err(Mistake::Role)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::tests::{GOOD, folder, load_text, private};
    use crate::net::tests::Ca;

    const SECTION: &str =
        "kind = \"transit\"\nurls = [\"http://127.0.0.1:8200\"]\nmount = \"transit\"\ntoken_file = \"token\"\n";
    const URLS: &str = "kind = \"transit\"\nurls = [\"https://bao.example.org:8200\"]\n";

    fn furnish(folder: &Path) {
        private(folder, "empty-token", "\n");
        std::fs::copy(folder.join("open.key"), folder.join("open-token")).expect("copies, with its mode");
        let ca = Ca::new(folder, "ca");
        ca.issue("proxy", &["proxy"]);
        ca.issue("other", &["other"]);
    }

    /// The settings that `section` gives, or what is reported of it without the folder's name. The section's own header
    /// stands in line 11.
    fn read(section: &str) -> Result<TransitSettings, Vec<String>> {
        let folder = folder();
        furnish(folder.path());
        let prefix = format!("{}/", folder.path().display());
        match load_text(&folder, &GOOD.replace(SECTION, section)) {
            Ok(config) => Ok(config.custodian),
            Err(problems) => Err(problems.to_string().lines().map(|line| line.replace(&prefix, "")).collect()),
        }
    }

    #[test]
    fn a_token_file_is_one_way() {
        let text =
            format!("{URLS}ca_file = \"ca.pem\"\ntoken_file = \"token\"\nmount = \"team/keys\"\ndeadline_ms = 1500\n");
        let settings = read(&text).expect("right");
        assert_eq!(settings.addresses[0].to_string(), "https://bao.example.org:8200");
        assert_eq!((settings.mount.as_str(), settings.deadline), ("team/keys", Duration::from_millis(1500)));
        assert!(settings.tls.ca_file.is_some() && settings.tls.identity.is_none());
        assert!(matches!(settings.authentication, Authentication::TokenFile(path) if path.ends_with("token")));
        let plain = "kind = \"transit\"\nurls = [\"http://127.0.0.1:8200\"]\ntoken_file = \"token\"\n";
        assert_eq!(read(plain).expect("right").mount.as_str(), "transit");
    }

    #[test]
    fn the_watch_is_off_unless_it_is_asked_for() {
        let text = format!("{URLS}token_file = \"token\"\n");
        let settings = read(&text).expect("right");
        assert_eq!((settings.watch, settings.watch_grace), (false, None));
        let settings = read(&format!("{text}watch = true\n")).expect("right");
        assert_eq!((settings.watch, settings.watch_grace), (true, None));
        let settings = read(&format!("{text}watch = true\nwatch_grace_s = 20\n")).expect("right");
        assert_eq!((settings.watch, settings.watch_grace), (true, Some(Duration::from_secs(20))));
    }

    #[test]
    fn a_certificate_is_another_with_or_without_login() {
        let text = format!("{URLS}certificate_file = \"proxy.pem\"\nkey_file = \"proxy.key\"\n");
        let settings = read(&text).expect("right");
        assert!(matches!(settings.authentication, Authentication::Certificate) && settings.tls.identity.is_some());
        let settings = read(&format!("{text}login_mount = \"auth/cert\"\nlogin_role = \"proxy\"\n")).expect("right");
        assert!(matches!(settings.authentication, Authentication::CertificateLogin { mount, role }
                if mount.as_str() == "auth/cert" && role.as_deref() == Some("proxy")));
    }

    /// What stands in the section after `kind` in line 12, and the one line that is reported.
    const MISTAKES: &[(&str, &str)] = &[
        ("token_file = \"token\"", "11: [custodian] `urls` is missing; add it"),
        ("urls = []\ntoken_file = \"token\"", "13: [custodian.urls] the list is empty"),
        (
            "urls = \"https://bao\"\ntoken_file = \"token\"",
            "13: [custodian.urls] expected a list of texts, found string",
        ),
        ("urls = [7]\ntoken_file = \"token\"", "13: [custodian.urls] expected a list of texts, found integer"),
        (
            "urls = [\"https://bao/v1\"]\ntoken_file = \"token\"",
            "13: [custodian.urls] \"https://bao/v1\" is not a custodian's",
        ),
        (
            "urls = [\"http://10.0.0.1\"]\ntoken_file = \"token\"",
            "13: [custodian.urls] \"http://10.0.0.1\" would carry keys",
        ),
        ("urls = [\"https://bao\"]", "11: [custodian] nothing says how the custodian knows this proxy; "),
        ("urls = [\"https://bao\"]\ntoken_file = \"absent\"", "14: [custodian.token_file] cannot read absent; check"),
        ("urls = [\"https://bao\"]\ntoken_file = \".\"", "14: [custodian.token_file] cannot read .; check"),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"empty-token\"",
            "14: [custodian.token_file] empty-token holds no token",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"open-token\"",
            "14: [custodian.token_file] open-token holds a token and is open",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"two-lines.key\"",
            "14: [custodian.token_file] two-lines.key is not a token",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = 7",
            "14: [custodian.token_file] expected a text in quotes, found integer",
        ),
        (
            "urls = [\"https://bao\"]\ntoken = \"s.abc\"\ntoken_file = \"token\"",
            "14: [custodian.token] secrets do not stand in",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"token\"\ncertificate_file = \"proxy.pem\"\nkey_file = \"proxy.key\"",
            "14: [custodian.token_file] there are two ways for the custodian to know this proxy; keep either",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"token\"\nlogin_role = \"proxy\"",
            "15: [custodian.login_role] `certificate_file` belongs to it",
        ),
        (
            "urls = [\"https://bao\"]\ncertificate_file = \"proxy.pem\"",
            "14: [custodian.certificate_file] `key_file` belongs",
        ),
        (
            "urls = [\"https://bao\"]\nkey_file = \"proxy.key\"",
            "14: [custodian.key_file] `certificate_file` belongs to it",
        ),
        (
            "urls = [\"https://bao\"]\ncertificate_file = \"absent\"\nkey_file = \"proxy.key\"",
            "14: [custodian.certificate_file] cannot read absent",
        ),
        (
            "urls = [\"https://bao\"]\ncertificate_file = \"proxy.pem\"\nkey_file = \"absent\"",
            "15: [custodian.key_file] cannot read absent",
        ),
        (
            "urls = [\"https://bao\"]\ncertificate_file = \"proxy.pem\"\nkey_file = \"other.key\"",
            "14: [custodian.certificate_file] the certificate in proxy.pem and the key in other.key do not go",
        ),
        (
            "urls = [\"https://bao\", \"http://localhost\"]\ncertificate_file = \"proxy.pem\"\nkey_file = \"proxy.key\"",
            "14: [custodian.certificate_file] to authenticate by certificate",
        ),
        (
            "urls = [\"https://bao\"]\ncertificate_file = \"proxy.pem\"\nkey_file = \"proxy.key\"\nlogin_role = \"proxy\"",
            "16: [custodian.login_role] `login_mount` belongs to it",
        ),
        (
            "urls = [\"https://bao\"]\ncertificate_file = \"proxy.pem\"\nkey_file = \"proxy.key\"\nlogin_mount = \"/auth\"",
            "16: [custodian.login_mount] \"/auth\" is not the path of a mount",
        ),
        (
            "urls = [\"https://bao\"]\ncertificate_file = \"proxy.pem\"\nkey_file = \"proxy.key\"\nlogin_mount = \"a\"\nlogin_role = \"\"",
            "17: [custodian.login_role] not the name of a role",
        ),
        (
            "urls = [\"https://bao\"]\nmount = \"../sys\"\ntoken_file = \"token\"",
            "14: [custodian.mount] \"../sys\" is not the path",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"token\"\nca_file = \"absent\"",
            "15: [custodian.ca_file] cannot read",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"token\"\nca_file = \"token\"",
            "15: [custodian.ca_file] token holds no cert",
        ),
        (
            "urls = [\"http://localhost:1\"]\ntoken_file = \"token\"\nca_file = \"ca.pem\"",
            "15: [custodian.ca_file] has no use with an http URL",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"token\"\ndeadline_ms = 0",
            "15: [custodian.deadline_ms] must be 1 to 60000",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"token\"\nwatch = 1",
            "15: [custodian.watch] expected true or false, found integer",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"token\"\nwatch_grace_s = 10",
            "15: [custodian.watch_grace_s] `watch` belongs to it",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"token\"\nwatch = true\nwatch_grace_s = 86401",
            "16: [custodian.watch_grace_s] must be 0 to 86400",
        ),
        (
            "urls = [\"https://bao\"]\ntoken_file = \"token\"\nkeyring_file = \"keyring\"",
            "15: [custodian.keyring_file] unknown key; remove it, or write one of: kind, urls",
        ),
    ];

    #[test]
    fn each_mistake_is_reported_with_its_line_and_key() {
        let wrong = MISTAKES.iter().filter_map(|(text, expected)| {
            let reported = read(&format!("kind = \"transit\"\n{text}\n")).expect_err(text);
            let right = reported.len() == 1 && reported[0].starts_with(&format!("proxy.toml:{expected}"));
            (!right).then(|| format!("{text}\n  {reported:#?}\n  not {expected}"))
        });
        let wrong: Vec<String> = wrong.collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn an_address_too_many_is_one() {
        let urls = "\"https://bao\", ".repeat(ADDRESSES_MAX + 1);
        let reported = read(&format!("kind = \"transit\"\nurls = [{urls}]\ntoken_file = \"token\"\n")).expect_err("17");
        assert_eq!(reported, ["proxy.toml:13: [custodian.urls] a custodian has 1 to 16 addresses"]);
    }
}
