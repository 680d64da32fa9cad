//! An audit log of one JSON object a line.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use super::{AuditFailed, AuditSink, Decision, Entry};

/// Appends entries to a file, each on disk before [`AuditSink::append`] returns.
///
/// **Invariant:** a line that could not be written whole never takes another one with it: the next starts on a line of its own.
pub struct FileSink(Mutex<Log>);

struct Log {
    file: File,
    /// The last write may have left half a line.
    torn: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    principal: &'a str,
    reason: &'static str,
    action: &'static str,
    kek: &'a str,
    version: Option<u32>,
    context_sha256: Option<String>,
    decision: &'static str,
}

impl FileSink {
    /// Opens the log at `path`, made with mode 0600 if it is not there.
    ///
    /// # Errors
    /// [`AuditFailed`].
    pub fn open(path: &Path) -> Result<Self, AuditFailed> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self(Mutex::new(Log { file, torn: last != [b'\n'] })))
    }
}

impl AuditSink for FileSink {
    fn append(&self, entry: &Entry) -> Result<(), AuditFailed> {
        let line = line(entry)?;
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if log.torn {
            log.file.write_all(b"\n")?;
        }
        log.torn = true;
        log.file.write_all(&line)?;
        log.file.sync_data()?;
        log.torn = false;
        Ok(())
    }
}

fn line(entry: &Entry) -> Result<Vec<u8>, AuditFailed> {
    let what = &entry.what;
    let hex = |hash: &[u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut line = serde_json::to_vec(&Line {
        time: entry.at.format(&Rfc3339).map_err(std::io::Error::other)?,
        principal: entry.who.principal.as_str(),
        reason: entry.who.reason.as_str(),
        action: what.action.as_str(),
        kek: what.kek.as_str(),
        version: what.version.map(crate::names::KekVersion::number),
        context_sha256: what.context_hash.as_ref().map(hex),
        decision: match entry.decision {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
        },
    })
    .map_err(std::io::Error::from)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::custodian::audit::{Action, AuditLog, Use};
    use crate::custody::caller::Caller;
    use crate::custody::reason::Reason;
    use crate::names::{KekName, KekVersion, Principal};

    fn caller() -> Caller {
        Caller { principal: Principal::new("alice").expect("legal"), reason: Reason::Maintenance }
    }

    fn rotation() -> Use {
        Use::of_kek(Action::Rotate, &KekName::new("records").expect("legal"), Some(KekVersion::FIRST))
    }

    #[test]
    fn entries_are_lines_and_only_allowed_ones_give_a_permit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::new(FileSink::open(&path).expect("opens"));
        assert!(log.record(&caller(), rotation(), Decision::Allow).expect("writes").is_some());
        assert!(log.record(&caller(), rotation(), Decision::Deny).expect("writes").is_none());
        let text = std::fs::read_to_string(&path).expect("reads");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["principal"], "alice");
        assert_eq!(lines[0]["action"], "rotate");
        assert_eq!(lines[0]["version"], 1);
        assert_eq!([&lines[0]["decision"], &lines[1]["decision"]], ["allow", "deny"]);
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_torn_line_stays_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"time\":\"20").expect("writes");
        let log = AuditLog::new(FileSink::open(&path).expect("opens"));
        log.record(&caller(), rotation(), Decision::Deny).expect("writes");
        log.record(&caller(), rotation(), Decision::Deny).expect("writes");
        let text = std::fs::read_to_string(&path).expect("reads");
        let whole: Vec<bool> = text.lines().map(|line| line.starts_with('{') && line.ends_with('}')).collect();
        assert_eq!(whole, [false, true, true]);
    }

    #[test]
    fn a_full_disk_gives_no_permit() {
        let log = AuditLog::new(FileSink::open(Path::new("/dev/full")).expect("opens"));
        assert!(log.record(&caller(), rotation(), Decision::Allow).is_err());
        assert!(log.record(&caller(), rotation(), Decision::Allow).is_err());
    }
}
