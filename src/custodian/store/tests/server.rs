//! A PostgreSQL server for the tests of this process.
//!
//! It runs under a shell that waits for the end of its input: when this process ends, however it does, the server is stopped and
//! its files are removed.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

const NEEDED: &str = "PostgreSQL is needed for this test (Debian: apt-get install postgresql)";

/// The server.
pub(super) struct Server {
    pub(super) folder: PathBuf,
    pub(super) port: u16,
    _shell: Child,
}

static SERVER: OnceLock<Server> = OnceLock::new();

/// The one server, started when it is first asked for.
pub(super) fn server() -> &'static Server {
    SERVER.get_or_init(start)
}

impl Server {
    /// The certificate authority of its certificate.
    pub(super) fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }
}

fn programs() -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    versions.sort();
    versions.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    versions.into_iter().rev().find(|folder| folder.join("initdb").exists()).expect(NEEDED)
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// PostgreSQL does not run as root: who runs it, and what to put before the command.
fn unprivileged() -> Option<(&'static str, Vec<String>)> {
    if output(Command::new("id").arg("-u")) != "0" {
        return None;
    }
    let exists = |user: &&str| Command::new("id").arg(user).output().is_ok_and(|output| output.status.success());
    let user = ["postgres", "nobody"].into_iter().find(exists).expect("a user to run PostgreSQL");
    let group = output(Command::new("id").args(["-gn", user]));
    let prefix =
        ["setpriv", &format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"].map(str::to_owned);
    Some((user, prefix.to_vec()))
}

fn write_certificates(folder: &Path) {
    let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = parameters.self_signed(&key).expect("signs");
    let issuer = Issuer::new(parameters, key);
    let server_key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let server = server.signed_by(&server_key, &issuer).expect("signs");
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("server.pem", server.pem()),
        ("server.key", server_key.serialize_pem()),
        ("other-ca.pem", {
            let mut other = CertificateParams::new(Vec::new()).expect("no names");
            other.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            other.self_signed(&KeyPair::generate().expect("a key")).expect("signs").pem()
        }),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).expect("writes");
        output(Command::new("chmod").arg(if name.ends_with("key") { "600" } else { "644" }).arg(path));
    }
}

fn start() -> Server {
    let programs = programs();
    let folder = tempfile::tempdir().expect("a folder").keep();
    write_certificates(&folder);
    let mut prefix = Vec::new();
    if let Some((user, before)) = unprivileged() {
        output(Command::new("chown").args(["-R", user]).arg(&folder));
        prefix = before;
    }
    let data = folder.join("data");
    let run = |program: &str| {
        let mut words = prefix.clone();
        words.push(programs.join(program).to_string_lossy().into_owned());
        words
    };
    let initdb = run("initdb");
    output(Command::new(&initdb[0]).args(&initdb[1..]).arg("-D").arg(&data).args([
        "--auth=trust",
        "--username=claviger",
        "--encoding=UTF8",
        "--no-sync",
    ]));
    // Someone else might take the port in between: then the test fails, and says so in the server's log.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let mut command = run("postgres");
    let set = |name: &str, value: String| [String::from("-c"), format!("{name}={value}")];
    command.extend(["-D".to_owned(), data.to_string_lossy().into_owned()]);
    command.extend(set("listen_addresses", "127.0.0.1".to_owned()));
    command.extend(set("port", port.to_string()));
    command.extend(set("unix_socket_directories", folder.to_string_lossy().into_owned()));
    command.extend(set("fsync", "off".to_owned()));
    command.extend(set("max_connections", "300".to_owned()));
    command.extend(set("ssl", "on".to_owned()));
    command.extend(set("ssl_cert_file", folder.join("server.pem").to_string_lossy().into_owned()));
    command.extend(set("ssl_key_file", folder.join("server.key").to_string_lossy().into_owned()));
    let log = fs::File::create(folder.join("log")).expect("a log");
    let shell = Command::new("sh")
        .args(["-c", "folder=$1; shift; \"$@\" & pid=$!; cat; kill -QUIT $pid; wait $pid; rm -rf \"$folder\"", "sh"])
        .arg(&folder)
        .args(&command)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("another handle"))
        .stderr(log)
        .spawn()
        .expect("runs");
    let server = Server { folder, port, _shell: shell };
    wait_until_ready(&server);
    server
}

fn wait_until_ready(server: &Server) {
    let began = Instant::now();
    loop {
        let log = fs::read_to_string(server.folder.join("log")).unwrap_or_default();
        if log.contains("database system is ready to accept connections") {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "PostgreSQL does not start:\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
