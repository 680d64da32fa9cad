"""Network namespaces: servers at the ports and under the names that the world knows, and nobody else's are disturbed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import endpoints
import servers


def run(script, folder):
    """Runs a script of this folder as root of a namespace with nothing in it; gives what it shows. Its argument is `folder`."""
    command = [servers.tool("unshare"), "--map-root-user", "--net", "--mount", sys.executable, Path(__file__).with_name(script), folder]
    environment = servers.clean_environment(folder, CLAVIGER_BIN=str(servers.program()), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def lead(folder, hosts, elsewhere=None):
    """Has the names lead to this namespace's loopback, and others to the addresses that are given by name."""
    (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(hosts)}\n" + lines(elsewhere or {}))
    subprocess.run(["mount", "--bind", folder / "hosts", "/etc/hosts"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def lines(names):
    return "".join(f"{address} {name}\n" for name, address in names.items())


class Host:
    """Another host beside this namespace, with a network and names of its own. It ends with this process."""

    def __init__(self, folder, name):
        self.hosts = folder / f"hosts-{name}"
        # It runs until its input ends.
        self.process = subprocess.Popen([servers.tool("unshare"), "--net", "--mount", "cat"], stdin=subprocess.PIPE)
        ours, theirs = (Path(f"/proc/{who}/ns/mnt") for who in ("self", self.process.pid))
        end = time.monotonic() + 10
        while theirs.readlink() == ours.readlink() or theirs.parent.parent.joinpath("comm").read_text() != "cat\n":
            assert self.process.poll() is None and time.monotonic() < end, "no further namespace"
            time.sleep(0.01)
        # Alone in its network, a process keeps the folder that it is started in.
        self.in_network = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]
        self.inside = [*self.in_network, f"--mount=/proc/{self.process.pid}/ns/mnt"]
        self.must("ip", "link", "set", "lo", "up")

    def must(self, *command, **settings):
        return subprocess.run([*self.inside, *command], check=True, timeout=60, **settings)

    def knows(self, names):
        """What it resolves names to, from now on: addresses by name."""
        self.hosts.write_text("127.0.0.1 localhost\n" + lines(names))
        self.must("mount", "--bind", self.hosts, "/etc/hosts")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def join(*ends):
    """A network of two: for each a host (`None`: this namespace), the name of its device and its address."""
    (one, device, _), (other, peer, _) = ends
    one, other = (str(os.getpid() if host is None else host.process.pid) for host in (one, other))
    subprocess.run(["ip", "link", "add", device, "netns", one, "type", "veth", "peer", "name", peer, "netns", other], check=True)
    for host, device, address in ends:
        for command in (["addr", "add", address, "dev", device], ["link", "set", device, "up"]):
            subprocess.run([*([] if host is None else host.inside), "ip", *command], check=True)


def storage(folder):
    """A storage server that takes writes."""
    (folder / "weed").mkdir()
    return endpoints.seaweedfs(folder / "weed")


def behind_tls(deployment, weed, folder, name, address, inside=()):
    """HAProxy before a storage server, with a certificate of the deployment's CA for `name`. `inside` goes before its command."""
    certs, pem, config = deployment.dir / "certs", folder / "storage.pem", folder / "haproxy.cfg"
    deployment.must("certificate", "spiffe://claviger.internal/region/us/proxy/storage", "--host", name, "--ca-file", certs / "ca.crt",
                    "--ca-key-file", certs / "ca.key", "--out", certs / name)
    pem.write_text((certs / f"{name}.crt").read_text() + (certs / f"{name}.key").read_text())
    config.write_text(
        "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1m\n  timeout server 1m\n"
        f"listen storage\n  bind {address}:443 ssl crt {pem}\n  server weed {weed.url.removeprefix('http://')}\n")
    return servers.Process("haproxy", [*inside, servers.haproxy(), "-f", config], folder, servers.clean_environment(folder))
