//! `[[site]]`: storage servers beside that of `[storage]`, each with a name that buckets choose it by.

use super::problem::Mistake;
use super::section::Section;
use super::storage::{self, MAIN, StorageSection};
use crate::custodian::store::SITES_MAX;
use crate::object::bucket::Buckets;

/// A storage server beside the default one, and the buckets that lie there.
#[derive(Debug)]
pub struct SiteSection {
    /// The storage server.
    pub storage: StorageSection,
    /// Its buckets, each by a rule of its own.
    pub buckets: Buckets,
}

/// A storage server that buckets can lie on, as far as its section is right.
pub(super) struct Server {
    pub(super) name: Option<String>,
    pub(super) storage: Option<StorageSection>,
}

impl Server {
    pub(super) fn state_bucket(&self) -> Option<&str> {
        self.storage.as_ref().map(|storage| storage.state_bucket.as_str())
    }

    fn addresses(&self) -> Vec<String> {
        self.storage.iter().flat_map(|storage| storage.settings.endpoints()).map(ToString::to_string).collect()
    }
}

/// All of them, the default one first.
pub(super) fn read(root: &Section<'_>) -> Vec<Server> {
    let main = root.required_section("storage").and_then(storage::read);
    let name = main.as_ref().map_or_else(|| MAIN.to_owned(), |main| main.site.clone());
    let mut servers = vec![Server { name: Some(name), storage: main }];
    let sections = root.sections("site");
    if sections.len() >= SITES_MAX {
        root.note_at("site", Mistake::Sites);
    }
    for section in sections.into_iter().take(SITES_MAX - 1) {
        let server = site(section, &servers);
        servers.push(server);
    }
    servers
}

fn site(section: Section<'_>, others: &[Server]) -> Server {
    let text = section.required("name");
    let name = text.as_ref().and_then(|text| text.parsed(super::custodian_server::site));
    let taken = name.as_ref().and_then(|name| others.iter().position(|other| other.name.as_ref() == Some(name)));
    if let (Some(place), Some(text)) = (taken, &text) {
        text.note(if place == 0 { Mistake::DefaultSite } else { Mistake::SiteTwice });
    }
    let at = section.place();
    let storage = storage::server(section, name.clone());
    let server = Server { name, storage };
    let addresses = server.addresses();
    let same = others.iter().find(|other| other.addresses().iter().any(|address| addresses.contains(address)));
    if let Some(other) = same {
        at.note(Mistake::SameServer(other.name.clone().unwrap_or_default()));
    }
    server
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::tests::{GOOD, folder, load_text};
    use crate::names::LogicalBucket;

    const SINGAPORE: &str = r#"[[site]]
name = "singapore"
urls = ["http://127.0.0.1:9100", "http://127.0.0.1:9101"]
access_key = "claviger-sg"
secret_key_file = "storage.key"
answer_timeout_s = 7
hedge_after_ms = 300
state_bucket = "sg-state"
[site.replica]
url = "http://127.0.0.1:9200"
access_key = "claviger"
secret_key_file = "storage.key"
[[bucket]]
name = "archive"
site = "singapore"
storage_name = "va-records"
kek = "archive"
"#;

    /// What is reported when `text` follows the right configuration, as keys and what is said of them.
    fn reported(text: &str) -> Vec<(String, String)> {
        let problems = load_text(&folder(), &format!("{GOOD}{text}")).expect_err(text);
        problems.list.iter().map(|problem| (problem.key.clone(), problem.what())).collect()
    }

    #[test]
    fn a_bucket_lies_at_the_site_that_it_names_and_nowhere_else() {
        let folder = folder();
        let config = load_text(&folder, &format!("{GOOD}{SINGAPORE}")).expect("right");
        let bucket = |name| LogicalBucket::new(name).expect("legal");
        let placement = config.placement();
        assert_eq!(placement.site_of(&bucket("archive")), "singapore");
        assert_eq!(placement.site_of(&bucket("records")), "main");
        assert_eq!(placement.site_of(&bucket("never-named")), "main");
        let [site] = config.sites.as_slice() else { panic!("one site") };
        assert_eq!((site.storage.site.as_str(), site.storage.state_bucket.as_str()), ("singapore", "sg-state"));
        let settings = &site.storage.settings;
        assert_eq!((settings.head_timeout, settings.further_endpoints.len()), (Duration::from_secs(7), 1));
        assert_eq!(settings.hedge_after, Some(Duration::from_millis(300)));
        assert_eq!(site.buckets.find(&bucket("archive")).expect("there").physical, "va-records");
        // The rule for buckets without one is not for those that lie elsewhere, nor is there one elsewhere.
        assert!(config.buckets.find(&bucket("archive")).is_none() && config.buckets.logical_name("archive").is_none());
        assert!(config.buckets.find(&bucket("others")).is_some() && site.buckets.find(&bucket("others")).is_none());
        let keks: Vec<String> = config.all_keks().iter().map(ToString::to_string).collect();
        assert_eq!(keks, ["archive", "old", "others", "records"]);
        assert!(!format!("{config:?}").contains("storage-secret"));
    }

    #[test]
    fn a_replica_is_as_patient_as_its_server_unless_it_says_otherwise() {
        let folder = folder();
        let patience = |text: &str| {
            let config = load_text(&folder, text).expect("right");
            let replica =
                |storage: &super::StorageSection| storage.replica.as_ref().map(|(of, _)| of.head_timeout.as_secs());
            (replica(&config.storage), config.sites.first().and_then(|site| replica(&site.storage)))
        };
        assert_eq!(patience(&format!("{GOOD}{SINGAPORE}")), (None, Some(7)));
        let own = SINGAPORE.replace("[site.replica]\n", "[site.replica]\nanswer_timeout_s = 3\n");
        assert_eq!(patience(&format!("{GOOD}{own}")), (None, Some(3)));
        let replica = "[storage.replica]\nurl = \"http://127.0.0.1:9300\"\naccess_key = \"claviger\"\nsecret_key_file = \"storage.key\"\n";
        assert_eq!(patience(&format!("{GOOD}{replica}")), (Some(60), None));
    }

    #[test]
    fn a_site_that_no_bucket_names_is_no_mistake() {
        let (site, _) = SINGAPORE.split_once("[[bucket]]").expect("there is a bucket");
        assert!(load_text(&folder(), &format!("{GOOD}{site}")).is_ok());
    }

    #[test]
    fn all_mistakes_about_sites_are_told_at_once() {
        let second =
            SINGAPORE.replace(":91", ":93").replace("archive", "more").replace("secret_key_file", "secret_file");
        let unknown = "[[bucket]]\nname = \"lost\"\nsite = \"tokyo\"\nkek = \"lost\"\n";
        let told = reported(&format!("{SINGAPORE}{second}{unknown}"));
        let of = |key: &str| told.iter().filter(|(of, _)| of == key).map(|(_, what)| what.as_str()).collect::<Vec<_>>();
        assert!(
            matches!(of("site.name").as_slice(), [one] if one.starts_with("another [[site]] has this name")),
            "{told:?}"
        );
        assert!(matches!(of("site").as_slice(), [one] if one.contains("`secret_key_file` is missing")), "{told:?}");
        assert_eq!(of("site.secret_file").len(), 1, "{told:?}");
        let tokyo = of("bucket.site");
        assert!(
            matches!(tokyo.as_slice(), [one] if one.contains("add a [[site]] section for it, or write one of: main, singapore")),
            "{told:?}"
        );
    }

    #[test]
    fn each_mistake_about_a_site_says_what_to_do() {
        for (line, wrong, key, told) in [
            ("name = \"singapore\"\nurls", "urls", "site", "`name` is missing"),
            ("name = \"singapore\"\nurls", "name = \"main\"\nurls", "site.name", "is the name of [storage]"),
            ("name = \"singapore\"\nurls", "name = \"a b\"\nurls", "site.name", "is not a site's name"),
            ("http://127.0.0.1:9101", "http://127.0.0.1:9000", "site", "this is the storage server of the site main"),
            ("http://127.0.0.1:9101", "http://10.0.0.1", "site.urls", "would carry"),
            ("answer_timeout_s = 7", "answer_timeout_s = 0", "site.answer_timeout_s", "must be 1 to 3600"),
            ("answer_timeout_s = 7", "timeout = 7", "site.timeout", "unknown key"),
            (
                "storage_name = \"va-records\"",
                "storage_name = \"sg-state\"",
                "bucket.storage_name",
                "the state bucket is for",
            ),
            ("name = \"archive\"", "name = \"records\"", "bucket.name", "already used in line"),
            ("site = \"singapore\"", "site = 1", "bucket.site", "expected a text in quotes"),
        ] {
            assert_eq!(SINGAPORE.matches(line).count(), 1, "{line}");
            let reported = reported(&SINGAPORE.replace(line, wrong));
            let found = reported.iter().any(|(of, what)| of == key && what.contains(told));
            assert!(found, "{wrong}: {reported:?}");
        }
        // Two buckets of one name there; that another server has one of the same name is nothing.
        let twice = SINGAPORE.replace("kek = \"archive\"", "kek = \"archive\"\n[[bucket]]\nname = \"b-two\"\nsite = \"singapore\"\nstorage_name = \"va-records\"\nkek = \"b\"");
        assert!(reported(&twice).iter().any(|(key, _)| key == "bucket.storage_name"));
    }

    #[test]
    fn there_are_no_more_sites_than_the_custodian_knows() {
        let site = |number: usize| {
            format!(
                "[[site]]\nname = \"s{number}\"\nurl = \"http://127.0.0.1:{}\"\naccess_key = \"claviger\"\nsecret_key_file = \"storage.key\"\n",
                9100 + number
            )
        };
        let sites = |count| (0..count).map(site).collect::<String>();
        assert!(load_text(&folder(), &format!("{GOOD}{}", sites(15))).is_ok());
        assert!(reported(&sites(16)).iter().any(|(key, what)| key == "site" && what == "names more than 16 sites"));
    }
}
