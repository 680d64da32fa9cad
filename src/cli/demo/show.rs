//! The show: what an application reads beside what the storage operator sees of it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::json;

use super::application::Application;
use super::home::{Home, KEK};
use crate::cli::files::shell_quoted;
use crate::format::envelope::HEADER;
use crate::storage::{Storage, StorageRequest};

const BUCKET: &str = "demo-records";
const KEY: &str = "patient-4711.txt";
const SAMPLE: &str = "Patient 4711\nBlood type: 0 negative\nAllergic to penicillin\nNext visit: 9 March\n";
const CONTENT_TYPE: &str = "text/plain";
const AUTHOR: &str = "Dr. Livia Drusilla";
/// Most bytes that the sample has on the storage server.
const STORED_MAX: usize = 1 << 20;
/// Width of the left column.
const LEFT: usize = 34;
const HEX_BYTES_PER_LINE: usize = 8;
const HEX_LINES: usize = 6;

/// What both saw of the same object.
pub(super) struct Show {
    read: View,
    stored: View,
}

/// Headers and body as one party got them.
struct View {
    content_type: String,
    /// Name and value of the one user-metadata header.
    metadata: (&'static str, String),
    body: Bytes,
}

impl View {
    fn new(headers: &HeaderMap, metadata: &'static str, body: Bytes) -> Self {
        let text = |name: &str| {
            let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            value.unwrap_or_else(|| "(none)".to_owned())
        };
        Self { content_type: text("content-type"), metadata: (metadata, text(metadata)), body }
    }
}

/// Stores the sample as an application, reads it back, and looks at it as the storage operator.
pub(super) async fn play(application: &Application, operator: &Storage) -> Result<Show> {
    let path = format!("/{BUCKET}/{KEY}");
    application.make_bucket(BUCKET).await?;
    let headers = [("content-type", CONTENT_TYPE), ("x-amz-meta-author", AUTHOR)];
    application.put(&path, &headers, Bytes::from_static(SAMPLE.as_bytes())).await?;
    let answer = application.get(&path).await?;
    ensure!(answer.body == SAMPLE, "the application read something else than it stored");

    let request = StorageRequest::object(Method::GET, BUCKET, KEY);
    let stored = operator.send(request, None).await.context("cannot look at the storage server")?;
    let stored = stored.checked().await.context("cannot look at the storage server")?;
    let headers = stored.headers.clone();
    let body = stored.collect(STORED_MAX).await?;
    ensure!(!contains(&body, b"penicillin"), "the storage server holds the sample in the clear");
    Ok(Show {
        read: View::new(&answer.headers, "x-amz-meta-author", answer.body),
        stored: View::new(&headers, HEADER, body),
    })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Prints the show.
pub(super) fn print(show: &Show, home: &Home, address: SocketAddr) {
    println!("claviger demo in {}{}\n", home.dir().display(), fate(home));
    println!("An application stored {BUCKET}/{KEY} through https://{address}\n");
    print!("{}", show.side_by_side());
}

/// Prints the show for programs.
pub(super) fn print_json(show: &Show, home: &Home, address: SocketAddr) {
    println!("{:#}", show.as_json(home, address));
}

/// Prints what to try next.
pub(super) fn print_what_next(home: &Home) -> Result<()> {
    println!("\n{}", what_next(home)?);
    Ok(())
}

fn fate(home: &Home) -> &'static str {
    if home.is_temporary() { " (removed at the end; give --dir DIR to keep it)" } else { "" }
}

impl Show {
    fn side_by_side(&self) -> String {
        let (read, stored) = (&self.read, &self.stored);
        let mut left = vec![
            "What the application reads".to_owned(),
            "-".repeat(LEFT - 3),
            read.content_type.clone(),
            format!("author: {}", read.metadata.1),
            format!("{} bytes", read.body.len()),
            String::new(),
        ];
        left.extend(String::from_utf8_lossy(&read.body).lines().map(str::to_owned));
        let envelope = &stored.metadata.1;
        let mut right = vec![
            "What the storage operator sees".to_owned(),
            "-".repeat(44),
            stored.content_type.clone(),
            format!("claviger: {}… ({} characters)", envelope.get(..16).unwrap_or(envelope), envelope.len()),
            format!("{} bytes", stored.body.len()),
            String::new(),
        ];
        right.extend(hexdump(&stored.body));
        let rows = left.len().max(right.len());
        let cell = |column: &[String], row: usize| column.get(row).cloned().unwrap_or_default();
        let row = |row| format!("  {:<LEFT$}{}", cell(&left, row), cell(&right, row)).trim_end().to_owned() + "\n";
        (0..rows).map(row).collect()
    }

    fn as_json(&self, home: &Home, address: SocketAddr) -> serde_json::Value {
        let view = |view: &View| {
            let hex: String = view.body.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({
                "content_type": view.content_type,
                "metadata": { view.metadata.0: view.metadata.1 },
                "bytes": view.body.len(),
                "body_hex": hex,
            })
        };
        json!({
            "endpoint": format!("https://{address}"),
            "environment_file": home.environment_file().display().to_string(),
            "object": format!("{BUCKET}/{KEY}"),
            "application_reads": view(&self.read),
            "operator_sees": view(&self.stored),
        })
    }
}

/// The first bytes, as hexdump shows them.
fn hexdump(bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (index, chunk) in bytes.chunks(HEX_BYTES_PER_LINE).take(HEX_LINES).enumerate() {
        let hex: String = chunk.iter().map(|byte| format!("{byte:02x} ")).collect();
        let visible = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let text: String = chunk.iter().map(visible).collect();
        lines.push(format!("{:08x}  {hex:<24} |{text}|", index * HEX_BYTES_PER_LINE));
    }
    if bytes.len() > HEX_BYTES_PER_LINE * HEX_LINES {
        lines.push("…".to_owned());
    }
    lines
}

fn what_next(home: &Home) -> Result<String> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let here = std::env::current_dir().ok();
    let program =
        here.and_then(|here| program.strip_prefix(here).ok().map(std::path::Path::to_owned)).unwrap_or(program);
    let quoted = |path: &std::path::Path| {
        let text = path.to_string_lossy();
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        if plain { text.into_owned() } else { shell_quoted(&text) }
    };
    let (environment, program) = (quoted(&home.environment_file()), quoted(&program));
    Ok(format!(
        "Try next, in another shell:
  . {environment}
  aws s3 cp s3://{BUCKET}/{KEY} -          # boto3, rclone, s3cmd and curl work as well
  aws s3 mb s3://mine && aws s3 cp README.md s3://mine/ && aws s3 ls s3://mine
  {program} inspect {BUCKET}/{KEY}
As an officer of the custodian (certs/officer-bob.* and officer-carol.* are two others):
  {program} key list && {program} audit show --limit 5 && {program} audit verify
  {program} key disable {KEK}             # then read the sample again: refused within a second
  {program} key enable {KEK}              # two others have to approve: {program} approve PROPOSAL
As the storage operator:
  AWS_ACCESS_KEY_ID=$CLAVIGER_STORAGE_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$CLAVIGER_STORAGE_SECRET_KEY \\
    aws --endpoint-url $CLAVIGER_STORAGE_URL s3 cp s3://{BUCKET}/{KEY} - | hexdump -C | head
Ctrl-C ends the demo. CLAVIGER_LOG=info shows each request."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hexdump_is_short_and_shows_only_visible_characters() {
        let lines = hexdump(&[0x41, 0x00, 0x7f, 0x20, 0xff]);
        assert_eq!(lines, ["00000000  41 00 7f 20 ff           |A.. .|"]);
        assert_eq!(hexdump(&[0; 49]).len(), HEX_LINES + 1);
        assert_eq!(hexdump(&[0; 48]).len(), HEX_LINES);
    }
}
