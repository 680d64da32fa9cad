"""A network of namespaces below one that nobody else is in: a bridge, and on it a host for each name.

Whatever is made here ends with the process that was started by `command`: nothing is left on the machine.
"""

import ctypes
import os
import subprocess
from pathlib import Path

NET = "10.77.0"
HOSTS = {
    "clients": 10, "balancer": 11, "proxy-1": 21, "proxy-2": 22, "custodian-1": 31, "custodian-2": 32, "postgres": 41,
    "virginia": 51, "singapore": 52, "custodian-dr": 53,
}
ZONES = ("virginia", "singapore", "custodian-dr")
CLONE_NEWNET = 0x40000000
# Where whoever runs the drill is, from wherever a thread has gone.
OFFICE = ("nsenter", "--net=/run/netns/office")


def command():
    """What runs a program as root of namespaces of its own: network, mounts, processes. It kills them all when it ends."""
    return ["unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]


def address(host):
    return f"{NET}.{HOSTS[host]}"


def inside(host, *words):
    """The command that runs `words` at this host."""
    return ["nsenter", f"--net=/run/netns/{host}", *words]


def enter(host):
    """From here on, this thread is at that host, with all that it connects or starts."""
    namespace = os.open(f"/run/netns/{host}", os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"no way into the namespace of {host}")
    finally:
        os.close(namespace)


def _run(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")


def _hardware(number):
    return f"02:00:0a:4d:00:{number:02x}"


class Network:
    """The bridge is the world between the hosts; who runs the drill is on it too."""

    office = 254

    def __init__(self, folder):
        _run("mount", "-t", "tmpfs", "none", "/run")
        names = "".join(f"{address(host)} {host}\n" for host in HOSTS)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        _run("mount", "--bind", folder / "hosts", "/etc/hosts")
        os.mkdir("/run/netns")
        Path("/run/netns/office").touch()
        _run("mount", "--bind", "/proc/self/ns/net", "/run/netns/office")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "world", "address", _hardware(self.office), "type", "bridge")
        _run("ip", "address", "add", f"{NET}.{self.office}/24", "dev", "world")
        _run("ip", "link", "set", "world", "up")
        for host in HOSTS:
            self._add(host)
        self._introduce()
        self.patient = not all([self._impatient(host) for host in HOSTS])
        self.shaped = self._can_shape()

    def _add(self, host):
        _run("ip", "netns", "add", host)
        _run("ip", "link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "address", _hardware(HOSTS[host]), "netns", host)
        _run("ip", "link", "set", f"to-{host}", "master", "world", "up")
        for words in (["address", "add", f"{address(host)}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            _run("ip", "-n", host, *words)

    def _introduce(self):
        """All know each other for good. Otherwise a host that is cut off would soon be "unreachable", where in life there is silence."""
        for host in HOSTS:
            for other, number in {**HOSTS, "office": self.office}.items():
                if other != host:
                    _run("ip", "-n", host, "neighbour", "replace", f"{NET}.{number}", "lladdr", _hardware(number), "dev", "eth0", "nud", "permanent")
            _run("ip", "neighbour", "replace", address(host), "lladdr", _hardware(HOSTS[host]), "dev", "world", "nud", "permanent")

    def _impatient(self, host):
        """Connections that nobody answers on end after some 10 s, as on machines that are set up for failover; else it takes Linux 15 minutes."""
        settings = "echo 5 > /proc/sys/net/ipv4/tcp_retries2 && echo 2 > /proc/sys/net/ipv4/tcp_syn_retries"
        return subprocess.run(inside(host, "sh", "-c", settings), stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0

    def cut(self, host):
        """Nothing reaches this host or leaves it, and nobody is told: connections hang."""
        _run(*OFFICE, "ip", "link", "set", f"to-{host}", "nomaster")

    def heal(self, host):
        _run(*OFFICE, "ip", "link", "set", f"to-{host}", "master", "world")

    def _can_shape(self):
        """What this kernel can do to a link: delay packets, or at least lose some."""
        for kind, attempt in (("netem", self._delay), ("nftables", self._lose)):
            try:
                attempt("clients")
                self.mend("clients")
                return kind
            except OSError:
                continue
        return None

    def _delay(self, host):
        _run(*OFFICE, "tc", "qdisc", "add", "dev", f"to-{host}", "root", "netem", "delay", "40ms", "10ms", "loss", "2%")

    def _lose(self, host):
        table = f"lossy-{host}".replace("-", "_")
        _run(*OFFICE, "nft", f"add table netdev {table}; add chain netdev {table} lose {{ type filter hook ingress device to-{host} priority 0; }}; "
                    f"add rule netdev {table} lose numgen random mod 100 < 5 drop")

    def spoil(self, host):
        """Makes the link to this host a bad one; says how."""
        if self.shaped == "netem":
            self._delay(host)
            return "40 ms of delay and 2 % of packets lost"
        self._lose(host)
        return "5 % of packets lost"

    def mend(self, host):
        table = f"lossy-{host}".replace("-", "_")
        for words in (["tc", "qdisc", "del", "dev", f"to-{host}", "root"], ["nft", "delete", "table", "netdev", table]):
            subprocess.run([*OFFICE, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False)
