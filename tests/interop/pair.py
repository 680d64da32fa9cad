"""Two custodians over one PostgreSQL, two proxies, and HAProxy before them."""

import re
import socket
import time

from deployment import Deployment
from load import impatient
from postgres import Postgres
from servers import Process, clean_environment, free_ports, haproxy


class Pair(Deployment):
    """A deployment with two custodians over one store and two proxies behind a load balancer."""

    second_custodian_address = second_proxy_address = front_address = "127.0.0.1"
    second_custodian_host = front_host = "localhost"
    # What HAProxy is told of each server besides its address.
    check = "check inter 200 fall 1 rise 1"
    processes = spoken_to = None

    @staticmethod
    def at(_name, command):
        """The command that runs `command` where the process of this name belongs."""
        return command

    def must(self, *arguments, **more):
        # The store is to be PostgreSQL from the start.
        if arguments[:2] == ("custodian", "init"):
            return self.prepare(arguments)
        return super().must(*arguments, **more)

    @staticmethod
    def store(folder):
        return Postgres(folder)

    def prepare(self, init):
        """Both custodians' configurations, then their one store."""
        folder = self.home
        (folder / "postgres").mkdir()
        self.postgres, self.processes = self.store(folder / "postgres"), {}
        self.second_port, self.second_proxy_port, self.front_port = free_ports(3)
        password = self.dir / "secrets/postgres"
        password.write_text(self.postgres.password)
        password.chmod(0o600)
        self.edit("custodian.toml", r'kind = "sqlite"\nfile = ".*"', f'kind = "postgres"\naddress = "{self.postgres.address}"\n'
                  f'password_file = "secrets/postgres"{self.postgres.trust}')
        certs = self.dir / "certs"
        super().must("certificate", "spiffe://claviger.internal/region/us/custodian/custodian-2", "--host", self.second_custodian_host,
                     "--ca-file", certs / "ca.crt", "--ca-key-file", certs / "ca.key", "--out", certs / "custodian-2")
        text = (self.dir / "custodian.toml").read_text()
        for pattern, other in ((f"{self.custodian_address}:{self.custodian_port}", f"{self.second_custodian_address}:{self.second_port}"), ('"custodian-1"', '"custodian-2"'),
                               (r"certs/custodian\.", "certs/custodian-2."), ("custodian/audit", "custodian/audit-2"),
                               ("claviger.example/custodian-us", "claviger.example/custodian-us-2")):
            text, count = re.subn(pattern, other, text)
            assert count >= 1, pattern
        (self.dir / "custodian-2.toml").write_text(text)
        first, second = f"https://{self.custodian_host}:{self.custodian_port}", f"https://{self.second_custodian_host}:{self.second_port}"
        self.edit("proxy.toml", rf'urls = \["{first}"\]', f'urls = ["{first}", "{second}"]')
        self.edit("proxy.toml", r"# leave_s = 0", "leave_s = 2")
        text = (self.dir / "proxy.toml").read_text()
        for pattern, other in ((f"{self.proxy_address}:{self.proxy_port}", f"{self.second_proxy_address}:{self.second_proxy_port}"), ('folder = "access-log"', 'folder = "access-log-2"')):
            text, count = re.subn(pattern, other, text)
            assert count == 1, pattern
        (self.dir / "proxy-2.toml").write_text(text)
        return super().must(*init)

    def run_one(self, kind, number):
        """Starts a custodian, unsealed, or a proxy, and waits until it serves."""
        name = f"{kind}-{number}"
        config = self.dir / (f"{kind}.toml" if number == 1 else f"{kind}-{number}.toml")
        process = Process(f"{name}-{time.monotonic_ns()}", self.at(name, [self.binary, kind, "--config", config]), self.home,
                          clean_environment(self.home, CLAVIGER_LOG="info"))
        self.processes[name] = process
        if kind == "proxy":
            process.wait_until(lambda: "the proxy serves" in process.log_tail(), "line that says it serves")
            return
        self.spoken_to = (f"https://{self.custodian_host}:{self.custodian_port}" if number == 1 else
                          f"https://{self.second_custodian_host}:{self.second_port}")
        process.wait_until(lambda: "sealed" in self.run("seal-status").stdout, "answer to seal-status")
        self.unseal()
        # What is changed at one holds at the other after 200 ms: a proxy asks the first one first.
        self.spoken_to = None

    def environment(self, who="alice"):
        """As ever, towards the custodian that is being unsealed, or else the first."""
        made = super().environment(who)
        return {**made, "VAULT_ADDR": self.spoken_to or made["VAULT_ADDR"]}

    def balance(self):
        """HAProxy, as the operator's guide says."""
        servers = "\n".join(f"  server proxy-{number} {address}:{port} {self.check}" for number, address, port in (
            (1, self.proxy_address, self.proxy_port), (2, self.second_proxy_address, self.second_proxy_port)))
        (self.home / "haproxy.cfg").write_text(
            "defaults\n  mode tcp\n  timeout connect 2s\n  timeout check 2s\n  timeout client 1m\n  timeout server 1m\n  retries 3\n  option redispatch 1\n"
            f"frontend front\n  bind {self.front_address}:{self.front_port}\n  default_backend proxies\nbackend proxies\n  balance roundrobin\n{servers}\n")
        process = Process("haproxy", self.at("haproxy", [haproxy(), "-f", self.home / "haproxy.cfg"]), self.home, clean_environment(self.home))
        self.processes["haproxy"] = process
        process.wait_until(self.takes_connections, "connection")

    def takes_connections(self):
        try:
            socket.create_connection((self.front_host, self.front_port), 5).close()
            return True
        except OSError:
            return False

    def client(self, port):
        return impatient(f"https://{self.front_host}:{port}", self.credentials(), self.dir / "certs/ca.crt", read_timeout=30)

    def logs(self):
        """Folder and key of each audit log: of the custodians' uses of keys, and of the proxies' accesses to records."""
        custodians = [(self.dir / "custodian/audit", self.dir / "custodian/audit.vkey"),
                      (self.dir / "custodian/audit-2", self.dir / "custodian/audit-2.vkey")]
        accesses = [(self.dir / name, self.dir / "access-log.vkey") for name in ("access-log", "access-log-2")]
        return custodians + accesses

    def audited(self):
        """What `claviger audit verify` says of each log."""
        found = {}
        for folder, key in self.logs():
            done = self.run("audit", "verify", "--log", folder, "--key", key)
            found[folder.name] = {"exit code": done.returncode, "says": " ".join((done.stdout + done.stderr).split())[:400]}
        return found

    def kill(self):
        for process in self.processes.values():
            process.kill()
        self.postgres.stop()
