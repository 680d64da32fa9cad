//! A log over HTTP, from a server that may be anyone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::cli::audit::Command;
use crate::cli::audit::testing::{entry, handed_over, log_key, text, typed, with_entries};
use crate::tlog::note::Signature;

/// Serves the files of `folder` below `/log`, on a thread of its own; gives its URL and what is posted.
fn serve(folder: &Path) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let url = format!("http://{}/log", listener.local_addr().expect("has an address"));
    let (folder, (posts, posted)) = (folder.to_owned(), channel());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let (folder, posts) = (folder.clone(), posts.clone());
            std::thread::spawn(move || while answer(&connection, &folder, &posts).is_some() {});
        }
    });
    (url, posted)
}

fn answer(connection: &TcpStream, folder: &Path, posts: &std::sync::mpsc::Sender<String>) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?, words.next()?.strip_prefix("/log/")?);
    let file = std::fs::read(folder.join(path.split('?').next()?));
    let (status, body) = match (method, path, file) {
        ("POST", "cosignature", _) => {
            posts.send(String::from_utf8(body).ok()?).ok()?;
            ("204 No Content", Vec::new())
        }
        ("GET", "forbidden", _) => ("403 Forbidden", Vec::new()),
        ("GET", "broken", _) => ("500 Internal Server Error", Vec::new()),
        ("GET", _, Ok(file)) => ("200 OK", file),
        _ => ("404 Not Found", Vec::new()),
    };
    let mut connection = connection;
    write!(connection, "HTTP/1.1 {status}\r\n").ok()?;
    if status != "204 No Content" {
        write!(connection, "Content-Length: {}\r\n", body.len()).ok()?;
    }
    connection.write_all(b"\r\n").ok()?;
    connection.write_all(&body).ok()
}

fn remote(url: &str) -> Remote {
    Remote::new(url, &Connection::default()).expect("a URL")
}

#[test]
fn a_custodian_needs_no_path() {
    let of = |url: &str| base(url).expect("a URL");
    assert_eq!(of("https://custodian:8200"), "https://custodian:8200/v1/sys/claviger/audit");
    assert_eq!(of("https://custodian:8200/"), "https://custodian:8200/v1/sys/claviger/audit");
    assert_eq!(of("https://logs.example.org/one/"), "https://logs.example.org/one");
    assert_eq!(of("http://127.0.0.1:80/log"), "http://127.0.0.1:80/log");
    for bad in ["https://", "http://logs.example.org/one", "https://h/one?x", "https://u:p@h/one", "ftp://h/one"] {
        assert!(base(bad).expect_err(bad).is::<Usage>(), "{bad}");
    }
    assert!(is_url("https://h") && !is_url("/var/log") && !is_url("httpslog"));
}

#[tokio::test]
async fn answers_are_bounded_and_told_apart() {
    let folder = handed_over((0..3).map(entry)).await;
    let (url, _posted) = serve(folder.path());
    let remote = remote(&url);
    let note = remote.get("checkpoint", 1000).await.expect("answers").expect("is there");
    assert_eq!(note, std::fs::read(folder.path().join("checkpoint")).expect("reads"));
    assert!(remote.get("checkpoint", note.len() - 1).await.is_err());
    assert!(remote.get("nothing", 10).await.expect("answers").is_none());
    assert!(remote.get("forbidden", 10).await.expect_err("403").to_string().contains("may not read"));
    assert!(remote.get("broken", 10).await.expect_err("500").to_string().contains("500"));
}

#[tokio::test]
async fn the_commands_work_on_a_url() {
    let folder = handed_over((0..600).map(entry)).await;
    let key = log_key();
    let verified = |url: String| {
        let key = key.clone();
        async move {
            let words = ["verify", "--json", "--log", &url, "--key", &key];
            let Command::Verify(arguments) = typed(&words) else { panic!("it is verify") };
            super::super::verify::run(&arguments).await
        }
    };
    let (url, posted) = serve(folder.path());
    verified(url.clone()).await.expect("whole");
    let altered = with_entries(folder.path(), |entries| entries[300][20] ^= 1);
    let (altered_url, _) = serve(altered.path());
    assert!(verified(altered_url).await.expect_err("altered").is::<crate::cli::Bad>());

    let home = tempfile::tempdir().expect("a folder");
    let [own, state] = ["key", "state"].map(|name| text(&home.path().join(name)));
    let Command::WitnessKey(arguments) = typed(&["witness-key", "--name", "w", "--out", &own]) else {
        panic!("it is witness-key")
    };
    super::super::witness_key::run(&arguments).expect("makes a key");
    let words =
        ["witness", "--once", "--push", "--log", &url, "--log-key", &key, "--key-file", &own, "--state", &state];
    let Command::Witness(arguments) = typed(&words) else { panic!("it is witness") };
    super::super::witness::run(arguments).await.expect("cosigns");
    let line = posted.recv().expect("is posted");
    let signature = Signature::parse(line.strip_suffix('\n').expect("a line")).expect("a signature");
    assert_eq!(signature.name(), "w");
    let cosigned = std::fs::read_to_string(format!("{state}/checkpoint")).expect("reads");
    assert!(cosigned.contains(&line));
}
