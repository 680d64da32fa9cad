//! `[audit]`: the log of record accesses.

use super::files;
use super::problem::Mistake;
use super::section::Section;
use crate::proxy::access_log::{AccessLogSettings, KeyForm};
use crate::tlog::note::{Use, VerifierKey};

pub(super) fn read(section: Section<'_>) -> Option<AccessLogSettings> {
    let folder = section.required("folder").map(|text| text.path());
    let origin = section.required("origin").and_then(|text| text.parsed(origin));
    let key = section.required("key_file").and_then(|text| text.parsed(|_| files::signing_key(&text.path())));
    let keys = match section.text("keys") {
        Some(text) => text.parsed(form),
        None => (!section.has("keys")).then(KeyForm::default),
    };
    let required = section.flag("required");
    let required = if section.has("required") { required } else { Some(true) };
    section.finish();
    Some(AccessLogSettings { folder: folder?, origin: origin?, key: key?, keys: keys?, required: required? })
}

fn origin(text: &str) -> Result<String, Mistake> {
    // The key is of no matter here, the name is.
    VerifierKey::new(text, Use::Log, [0; 32]).map(|_| text.to_owned()).map_err(|_| Mistake::Origin)
}

fn form(text: &str) -> Result<KeyForm, Mistake> {
    match text {
        "clear" => Ok(KeyForm::Clear),
        "hashed" => Ok(KeyForm::Hashed),
        _ => Err(Mistake::Choice(vec!["clear", "hashed"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{GOOD, folder, load_text, private};

    /// The settings that the section gives, or what is reported of it without the folder's name. Its header is in line 31.
    fn read(section: &str) -> Result<Option<AccessLogSettings>, Vec<String>> {
        let folder = folder();
        private(folder.path(), "seed", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n");
        private(folder.path(), "zeros", &format!("{}\n", "A".repeat(43)));
        let prefix = format!("{}/", folder.path().display());
        match load_text(&folder, &format!("{GOOD}{section}")) {
            Ok(config) => Ok(config.audit),
            Err(problems) => Err(problems.to_string().lines().map(|line| line.replace(&prefix, "")).collect()),
        }
    }

    #[test]
    fn it_is_off_unless_there_is_a_section() {
        assert!(read("").expect("right").is_none());
        let section = "[audit]\nfolder = \"log\"\norigin = \"claviger.example/proxy\"\nkey_file = \"seed\"\n";
        let audit = read(section).expect("right").expect("on");
        assert_eq!(
            (audit.keys, audit.required, audit.origin.as_str()),
            (KeyForm::Clear, true, "claviger.example/proxy")
        );
        assert!(audit.folder.ends_with("log"));
        let audit = read(&format!("{section}keys = \"hashed\"\nrequired = false\n")).expect("right").expect("on");
        assert_eq!((audit.keys, audit.required), (KeyForm::Hashed, false));
    }

    #[test]
    fn each_mistake_is_reported_with_its_line_and_key() {
        let with = |key: &str, value: &str| {
            let of = |name: &str, usual: &str| {
                format!("{name} = {}\n", if name == key { value.to_owned() } else { format!("\"{usual}\"") })
            };
            let usual = [("folder", "log"), ("origin", "o"), ("key_file", "seed"), ("keys", "clear")];
            let lines: String = usual.iter().map(|(name, usual)| of(name, usual)).collect();
            read(&format!("[audit]\n{lines}")).err().expect("wrong").join("\n")
        };
        for (key, value, expected) in [
            ("origin", "\"a b\"", "[audit.origin] not a log's name"),
            ("origin", "\"\"", "[audit.origin] not a log's name"),
            ("key_file", "\"absent\"", "[audit.key_file] cannot read absent"),
            ("key_file", "\"open.key\"", "[audit.key_file] open.key holds a secret and is open"),
            ("key_file", "\"client.key\"", "[audit.key_file] client.key does not hold a seed"),
            ("key_file", "\"zeros\"", "[audit.key_file] zeros does not hold a seed"),
            ("keys", "\"both\"", "[audit.keys] not a known value; write one of: clear, hashed"),
            ("keys", "7", "[audit.keys] expected a text"),
        ] {
            let reported = with(key, value);
            assert!(reported.contains(expected) && reported.lines().count() == 1, "{key} = {value}: {reported}");
        }
        assert_eq!(read("[audit]\n").err().expect("wrong").len(), 3);
    }
}
