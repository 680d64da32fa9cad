"""What test_interception.py runs in a network namespace of its own: applications whose traffic to the public service is led to the proxy.

This namespace is the proxy's host. Beside it are an application's host, the gateway before both, and the public service, all with
addresses as they stand in the operator's guide. The rules are those of the guide, word for word. The argument is a folder for files.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import intercepted
import namespace
import servers
from guide import GUIDE

PUBLIC, PROXY = "198.51.100.10", "192.0.2.8"
SERVICE = f"""
import socketserver

class Service(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"the public service")

with socketserver.TCPServer(("{PUBLIC}", 443), Service) as server:
    print("serves", flush=True)
    server.serve_forever()
"""
ASK = f"import socket; print(socket.create_connection(('{PUBLIC}', 443), 10).recv(100).decode())"


def rules():
    """By where they belong: on the application's host, or on the gateway."""
    chapter = re.search(r"(?ms)^## Ways in for applications$(.*?)^## ", GUIDE.read_text())[1]
    blocks = re.findall(r"(?ms)^```nft\n(.*?)^```$", chapter)
    found = {re.search(r"hook (\w+)", block)[1]: block for block in blocks}
    assert set(found) == {"output", "prerouting"} and all(f"dnat to {PROXY}:8443" in block for block in blocks), blocks
    return found


class World:
    """The hosts and the ways between them; this namespace is the proxy's host."""

    def __init__(self, folder, names):
        self.application, self.gateway, self.public = (namespace.Host(folder, name) for name in ("application", "gateway", "public"))
        namespace.join((self.gateway, "to-app", "10.0.0.1/24"), (self.application, "eth0", "10.0.0.2/24"))
        namespace.join((self.gateway, "to-proxy", "192.0.2.1/24"), (None, "eth0", f"{PROXY}/24"))
        namespace.join((self.gateway, "to-world", "198.51.100.1/24"), (self.public, "eth0", f"{PUBLIC}/24"))
        self.gateway.must("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for host, way in ((self.application, "10.0.0.1"), (self.public, "198.51.100.1")):
            host.must("ip", "route", "add", "default", "via", way)
        subprocess.run(["ip", "route", "add", "default", "via", "192.0.2.1"], check=True)
        self.application.knows({name: PUBLIC for name in names})
        self.service = servers.Process("public", [*self.public.inside, sys.executable, "-c", SERVICE], folder, os.environ)
        self.service.wait_until(lambda: "serves" in self.service.log_tail(), "public service")

    def stop(self):
        self.service.kill()
        for host in (self.application, self.gateway, self.public):
            host.stop()


def apply(host, rules):
    host.must("nft", "-f", "-", input=rules.encode())


def reached(inside=()):
    """What answers at the public address to who asks from there."""
    return subprocess.run([*inside, sys.executable, "-c", ASK], check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def main(folder):
    names = [name for domain in intercepted.DOMAINS for name in (domain, *(f"{bucket}.{domain}" for bucket in intercepted.BUCKETS))]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    weed, deployment, world = namespace.storage(folder), None, World(folder, names)
    try:
        deployment = intercepted.Intercepting(folder, (weed.url, weed.access_key, weed.secret_key))
        deployment.edit("proxy.toml", rf'listen = "127.0.0.1:{deployment.proxy_port}"', 'listen = "0.0.0.0:8443"')
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        deployment.start_proxy()
        environment = intercepted.environment(folder, deployment)
        assert reached(world.application.inside) == "the public service", "without rules, the way there is free"
        for where, host in (("output", world.application), ("prerouting", world.gateway)):
            apply(host, rules()[where])
            print(f"rules for {where}:", flush=True)
            world.application.must(sys.executable, intercepted.__file__, "application", env=environment)
            assert reached() == "the public service", "the proxy itself gets there"
            apply(host, "flush ruleset")
        assert reached(world.application.inside) == "the public service", "the rules alone led to the proxy"
        stored = b"".join(path.read_bytes() for path in (folder / "weed/data").rglob("*") if path.is_file())
        assert intercepted.BODY not in stored and intercepted.BUCKETS[0].encode() in stored
    finally:
        if deployment is not None:
            deployment.kill()
        world.stop()
        weed.stop()


if __name__ == "__main__":
    main(Path(os.path.abspath(sys.argv[1])))
