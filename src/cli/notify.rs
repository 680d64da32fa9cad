//! What a service manager is told of this process, by systemd's protocol (sd_notify(3)): one datagram to the socket that
//! `NOTIFY_SOCKET` names. Without that variable nobody wants to know, and nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

const VARIABLE: &str = "NOTIFY_SOCKET";

/// What is being served, from now on.
pub(super) fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={status}"));
}

/// Nothing new is taken any more; what runs is brought to its end.
pub(super) fn stopping() {
    tell("STOPPING=1\nSTATUS=draining");
}

/// A service manager that does not hear of it acts by its own time-outs, so that a failure is logged and no more.
fn tell(state: &str) {
    let Some(socket) = std::env::var_os(VARIABLE).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, socket = %socket.display(), "the service manager cannot be told");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let own = UnixDatagram::unbound()?;
    // Nobody has to wait for a manager that does not read.
    own.set_nonblocking(true)?;
    own.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(manager: &UnixDatagram) -> String {
        manager.set_nonblocking(true).expect("sets");
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).expect("something was sent");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn the_manager_is_reached_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("binds");
        send(path.as_os_str(), "READY=1").expect("sends");
        assert_eq!(received(&manager), "READY=1");

        let name = format!("claviger-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("binds");
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").expect("sends");
        assert_eq!(received(&manager), "STOPPING=1");
    }

    #[test]
    fn a_manager_that_is_gone_is_an_error_and_no_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(send(folder.path().join("absent").as_os_str(), "READY=1").is_err());
        assert!(send(OsStr::new(&"x".repeat(200)), "READY=1").is_err(), "longer than an address may be");
    }
}
