//! `claviger inspect`: an object's envelope as the storage server has it. Nothing is decrypted.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use http::{Method, StatusCode};
use serde_json::json;

use super::{ConfigFile, Usage, runtime};
use crate::config::Config;
use crate::format::envelope::{HEADER, Layout, Unverified};
use crate::format::size;
use crate::names::LogicalBucket;
use crate::storage::{Storage, StorageRequest};

#[derive(Args)]
pub(super) struct Arguments {
    /// The object, by the bucket's name for clients
    #[arg(value_name = "BUCKET/KEY")]
    object: String,
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the storage server says of an object.
struct Found {
    physical: String,
    stored_bytes: u64,
    envelope: Unverified,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let object = arguments.object.strip_prefix("s3://").unwrap_or(&arguments.object);
    let parts = object.split_once('/').filter(|(_, key)| !key.is_empty());
    let (bucket, key) = parts.ok_or_else(|| Usage(format!("{object:?} is not BUCKET/KEY")))?;
    let bucket = LogicalBucket::new(bucket).map_err(|error| Usage(error.to_string()))?;
    let config = arguments.config.load()?;
    let found = runtime()?.block_on(find(config, &bucket, key))?;
    if arguments.json {
        println!("{:#}", found.as_json(&bucket, key));
    } else {
        print!("{}", found.as_text(&bucket, key));
    }
    Ok(())
}

async fn find(config: Config, bucket: &LogicalBucket, key: &str) -> Result<Found> {
    let further = config.sites.into_iter().map(|site| (site.storage, site.buckets));
    let mut servers = std::iter::once((config.storage, config.buckets)).chain(further);
    let found = servers.find_map(|(storage, buckets)| {
        let physical = buckets.find(bucket)?.physical.to_owned();
        Some((storage, physical))
    });
    let (storage, physical) =
        found.with_context(|| format!("the configuration has no rule for the bucket {bucket}"))?;
    let storage = Storage::new(storage.settings, storage.credentials)?;
    let request = StorageRequest::object(Method::HEAD, physical.as_str(), key);
    let response = storage.send(request, None).await.context("cannot ask the storage server")?;
    match response.status {
        status if status.is_success() => {}
        StatusCode::NOT_FOUND => bail!("the storage server has no object {key:?} in its bucket {physical}"),
        StatusCode::FORBIDDEN => bail!("the storage server refuses: check `storage.access_key` and its permissions"),
        status => bail!("the storage server answered {status}"),
    }
    let header = |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok());
    let stored_bytes = header("content-length").and_then(|length| length.parse().ok());
    let stored_bytes = stored_bytes.context("the storage server's answer has no Content-Length")?;
    let Some(text) = header(HEADER) else {
        bail!("{bucket}/{key} is not encrypted by Claviger: it has no `{HEADER}` header");
    };
    let envelope = Unverified::parse(text).with_context(|| format!("{bucket}/{key}"))?;
    Ok(Found { physical, stored_bytes, envelope })
}

impl Found {
    /// What the stored size says of the plaintext's; `None` when no object of ours has it.
    fn plaintext_bytes(&self) -> Option<u64> {
        let expected_empty = self.envelope.layout() == Layout::Empty;
        size::plaintext(self.stored_bytes).filter(|bytes| (*bytes == 0) == expected_empty)
    }

    fn layout(&self) -> &'static str {
        match self.envelope.layout() {
            Layout::Single => "single",
            Layout::Multipart => "multipart",
            Layout::Empty => "empty",
        }
    }

    /// The first 8 bytes name the data key well enough to compare two objects.
    fn commitment(&self) -> String {
        self.envelope.commitment().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    fn as_json(&self, bucket: &LogicalBucket, key: &str) -> serde_json::Value {
        let branch = self.envelope.branch();
        json!({
            "bucket": bucket.as_str(),
            "key": key,
            "storage_bucket": self.physical,
            "kek": branch.kek.as_str(),
            "kek_version": branch.version.number(),
            "branch_key_id": branch.id.to_string(),
            "writer": branch.writer.as_str(),
            "layout": self.layout(),
            "customer_key": self.envelope.needs_customer_key(),
            "stored_bytes": self.stored_bytes,
            "plaintext_bytes": self.plaintext_bytes(),
            "commitment_prefix": self.commitment(),
            "verified": false,
        })
    }

    fn as_text(&self, bucket: &LogicalBucket, key: &str) -> String {
        let branch = self.envelope.branch();
        let plaintext = match self.plaintext_bytes() {
            Some(bytes) => format!("{bytes} bytes"),
            None => "unknown: no object of ours has this stored size".to_owned(),
        };
        let mut rows = vec![
            ("KEK", format!("{} {}", branch.kek, branch.version)),
            ("branch key", branch.id.to_string()),
            ("written by", branch.writer.to_string()),
            ("layout", self.layout().to_owned()),
            ("stored", format!("{} bytes in the storage server's bucket {}", self.stored_bytes, self.physical)),
            ("plaintext", plaintext),
            ("commitment", format!("{}…", self.commitment())),
        ];
        if self.envelope.needs_customer_key() {
            rows.push(("customer key", "needed: the client encrypted with a key of its own (SSE-C)".to_owned()));
        }
        let rows: String = rows.iter().map(|(label, value)| format!("  {label:<14}{value}\n")).collect();
        let note = "As the storage server says it; only reading the object through the proxy verifies it.";
        format!("{bucket}/{key}\n{rows}{note}\n")
    }
}
