//! What `claviger key` does where the custodian is an OpenBao or Vault server, which has no ledger of branch keys: it goes by what the storage
//! server lists, and says so.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use super::look;
use crate::cli::Usage;
use crate::cli::custodian_client::Client;
use crate::maintenance::keys::listed::ListedCensus;
use crate::maintenance::keys::{KeyMover, KeyReport};
use crate::names::{KekName, KekVersion};

/// What is said of every count and every move.
pub(super) const NOT_PROOF: &str = "this custodian has no ledger of branch keys: these are those that the storage server lists, which is no \
     proof that there are no others";
/// Why versions are not retired just so.
pub(super) const REFUSED: &str = "this custodian is an OpenBao or Vault server, which has no ledger of branch keys: nothing proves that no \
     branch key needs an old version. Keep the old versions, or re-encrypt; or, if you take the storage server's word for which branch keys \
     there are: run `claviger key rewrap`, look at `claviger key census --config FILE`, and say --without-ledger";

/// The census as JSON: what the custodian's own has, as far as a listing tells it.
pub(super) fn census_json(name: &KekName, census: &ListedCensus, key: &Value) -> Value {
    let (latest, oldest) = (key["latest_version"].as_u64(), key["min_decryption_version"].as_u64());
    let known = oldest.unwrap_or(1)..=latest.unwrap_or(0).min(1_000);
    let mut versions: serde_json::Map<String, Value> =
        known.map(|version| (version.to_string(), json!({ "branch_keys": 0 }))).collect();
    for (version, count) in &census.versions {
        versions.insert(version.number().to_string(), json!({ "branch_keys": count }));
    }
    json!({
        "kek": name.as_str(),
        "latest": latest,
        "min_decryption": oldest,
        "branch_keys": census.branch_keys,
        "passed_over": census.passed,
        "versions": versions,
        "source": "listing",
        "proof": false,
        "note": NOT_PROOF,
    })
}

/// Counts what the storage server lists.
pub(super) async fn census(name: &KekName, movers: &[KeyMover], client: &Client) -> Result<Value> {
    let listed = together(listed(name, movers).await?);
    // Who may not look at the key learns what is listed all the same.
    let key = look(client, name).await.map(|answer| answer.data).unwrap_or_default();
    Ok(census_json(name, &listed, &key))
}

/// What the storage servers list, site by site.
async fn listed(name: &KekName, movers: &[KeyMover]) -> Result<Vec<ListedCensus>> {
    let mut all = Vec::new();
    for mover in movers {
        let listed = mover.listed_census(name).await;
        all.push(listed.with_context(|| format!("cannot list the branch keys at the site {}", mover.site))?);
    }
    Ok(all)
}

fn together(sites: Vec<ListedCensus>) -> ListedCensus {
    sites.into_iter().fold(ListedCensus::default(), ListedCensus::and)
}

/// How `retire` is to be carried out.
pub(super) struct Retirement<'a> {
    pub(super) name: &'a KekName,
    pub(super) before: KekVersion,
    /// For how long after the rotation a proxy may still be given an older version.
    pub(super) wait_s: u64,
    pub(super) yes: bool,
}

impl Retirement<'_> {
    /// Raises the oldest version that is opened; gives the number of branch keys that were read back.
    pub(super) async fn carry_out(&self, movers: &[KeyMover], client: &Client) -> Result<u64> {
        let Self { name, before, yes, .. } = self;
        if !yes && !std::io::stdin().is_terminal() {
            return Err(Usage("--without-ledger wants a person at a terminal who agrees, or --yes".to_owned()).into());
        }
        let key = look(client, name).await?.data;
        check(&key, *before)?;
        self.sleep(&key).await;
        let listed = listed(name, movers).await?;
        for (mover, listed) in movers.iter().zip(&listed) {
            let site = &mover.site;
            ensure!(
                listed.branch_keys > 0 || (!mover.keks.contains(name) && movers.len() > 1),
                "the storage server at {site} lists no branch key of {name}, under which there are buckets: check its state_bucket in the \
                 configuration; if nothing was ever written there, leave those buckets out of it"
            );
        }
        let listed = together(listed);
        let needed = listed.needed(*before);
        if needed > 0 {
            bail!(
                "{needed} branch keys of {name} have no entry under {before} or a newer version: run `claviger key rewrap {name}` first"
            );
        }
        let mut report = KeyReport::default();
        for mover in movers {
            let read = mover.read_back_listed(name, *before).await;
            report = report.and(read.with_context(|| format!("the site {} was not read back", mover.site))?);
        }
        super::life::tell(&report, false);
        ensure!(
            report.failed == 0,
            "not every branch key could be read back: run `claviger key rewrap {name} --repair`"
        );
        self.agreed(report.confirmed)?;
        let body = json!({ "min_decryption_version": before.number() });
        client.transit(Method::POST, &format!("keys/{name}/config"), Some(&body)).await?;
        Ok(report.confirmed)
    }

    /// Until no proxy is given an older version any more.
    async fn sleep(&self, key: &Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let wait_s = left(self.wait_s, made_unix_s(key, self.before), now);
        if wait_s > 0 {
            eprintln!("claviger: proxies may still write under an older version; going on in {wait_s} s");
            tokio::time::sleep(Duration::from_secs(wait_s)).await;
        }
    }

    fn agreed(&self, listed: u64) -> Result<()> {
        let Self { name, before, yes, .. } = self;
        eprintln!(
            "claviger: nothing opens any more what is wrapped under a version of {name} before {before}. {listed} branch keys were listed, read \
             back and opened; of others nobody knows. If the storage server hides a branch key, the objects under it are lost to you: it \
             may have hidden some from `rewrap`, too. As long as nobody trims the key (min_available_version), a lower \
             min_decryption_version takes it back."
        );
        if *yes {
            return Ok(());
        }
        eprint!("Retire them? Type the key's name: ");
        std::io::stderr().flush().context("cannot ask")?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
        if answer.trim() == name.as_str() { Ok(()) } else { Err(Usage("nothing was retired".to_owned()).into()) }
    }
}

fn check(key: &Value, before: KekVersion) -> Result<()> {
    let number =
        |name: &str| key[name].as_u64().with_context(|| format!("the custodian does not tell the key's {name}"));
    let (latest, oldest) = (number("latest_version")?, number("min_decryption_version")?);
    ensure!(u64::from(before.number()) <= latest, "there is no {before}: the newest version is v{latest}");
    ensure!(u64::from(before.number()) > oldest, "versions before v{oldest} are retired already");
    Ok(())
}

/// When the version was made, in seconds since 1970, as Transit tells it of keys that encrypt.
fn made_unix_s(key: &Value, version: KekVersion) -> Option<u64> {
    key["keys"][version.number().to_string()].as_u64()
}

/// What is left of `wait_s`. Where nobody knows when the version was made, all of it; a clock that is wrong makes it no longer.
fn left(wait_s: u64, made_unix_s: Option<u64>, now_unix_s: u64) -> u64 {
    made_unix_s.map_or(wait_s, |made| wait_s.saturating_sub(now_unix_s.saturating_sub(made)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32) -> KekVersion {
        KekVersion::new(number).expect("not zero")
    }

    #[test]
    fn the_wait_ends_with_the_time_since_the_rotation() {
        assert_eq!(left(3_900, Some(1_000), 1_100), 3_800);
        assert_eq!(left(3_900, Some(1_000), 9_000), 0);
        assert_eq!(left(3_900, None, 9_000), 3_900);
        assert_eq!(left(3_900, Some(9_000), 1_000), 3_900, "a clock that is ahead");
        let key = json!({ "keys": { "2": 1_700_000_000 } });
        assert_eq!((made_unix_s(&key, version(2)), made_unix_s(&key, version(3))), (Some(1_700_000_000), None));
    }

    #[test]
    fn only_versions_that_there_are_and_that_are_opened_are_retired() {
        let key = json!({ "latest_version": 3, "min_decryption_version": 2 });
        assert!(check(&key, version(3)).is_ok());
        for wrong in [1, 2, 4] {
            assert!(check(&key, version(wrong)).is_err(), "{wrong}");
        }
        assert!(check(&json!({}), version(2)).is_err());
    }

    #[test]
    fn a_listed_census_says_that_it_proves_nothing() {
        let name = KekName::new("records").expect("legal");
        let census = ListedCensus { branch_keys: 3, versions: [(version(2), 3)].into(), passed: 0 };
        let key = json!({ "latest_version": 3, "min_decryption_version": 1 });
        let shown = census_json(&name, &census, &key);
        assert_eq!(
            shown["versions"],
            json!({ "1": {"branch_keys": 0}, "2": {"branch_keys": 3}, "3": {"branch_keys": 0} })
        );
        assert_eq!((shown["proof"].as_bool(), shown["source"].as_str()), (Some(false), Some("listing")));
        let unknown = census_json(&name, &census, &Value::Null);
        assert_eq!(unknown["versions"], json!({ "2": {"branch_keys": 3} }), "of a key that we may not look at");
    }
}
