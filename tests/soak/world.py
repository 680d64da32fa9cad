"""What is soaked: two proxies, two custodians over one PostgreSQL and a SeaweedFS server, with a relay between each two that speak to each other."""

import ssl
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

import endpoints
from boundaries import FLIP, HTTP_KINDS
from pair import Pair
from postgres import Postgres
from resources import taken
from servers import free_ports

CLIENTS, STORAGE, CUSTODIANS, DATABASE = "client–proxy", "proxy–storage", "proxy–custodian", "custodian–database"
# So short that custodians are asked all the time and that there are ever more branch keys; and no proxy waits longer for the storage
# server than clients do for the proxy.
LEASES = {"read_lease_s": 10, "write_renew_s": 10, "write_objects_max": 200}
ANSWER_TIMEOUT_S = 4
# By itself it would be as long as a lease for reading: then a watch that is opened late is all that one sees.
WATCH_GRACE_S = 60


class Soaked(Pair):
    """The trusted side. Everything that it speaks to is behind a relay; officers go past them."""

    def __init__(self, folder, storage, relays):
        self.relays = relays
        super().__init__(folder, storage, **LEASES)
        self.metrics_ports = free_ports(2)
        for name, port in zip(("proxy.toml", "proxy-2.toml"), self.metrics_ports):
            self.edit(name, r"# \[metrics\]\n# listen = .*", f'[metrics]\nlisten = "127.0.0.1:{port}"')
            self.edit(name, r"(?m)^copy_limit_bytes = .*", f"answer_timeout_s = {ANSWER_TIMEOUT_S}")
            self.edit(name, r"(?m)^watch = true$", f"watch = true\nwatch_grace_s = {WATCH_GRACE_S}")
            for custodian in (self.custodian_port, self.second_port):
                relay = self.relays.between(CUSTODIANS, custodian)
                self.edit(name, f"localhost:{custodian}", f"localhost:{relay}")

    def store(self, folder):
        made = Postgres(folder)
        made.address = made.address.replace(str(made.port), str(self.relays.between(DATABASE, made.port)))
        return made

    def start(self):
        for number in (1, 2):
            self.run_one("custodian", number)
        self.must("key", "create", "records")
        for number in (1, 2):
            self.run_one("proxy", number)

    def ways(self, flipping):
        """Ports of relays to the proxies. They pass TLS on, or end it and alter what they pass on."""
        if not flipping:
            return [self.relays.between(CLIENTS, port) for port in (self.proxy_port, self.second_proxy_port)]
        near, far = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=self.dir / "certs/ca.crt")
        near.load_cert_chain(self.dir / "certs/proxy.crt", self.dir / "certs/proxy.key")
        return [self.relays.between(CLIENTS, port, (FLIP,), near, far) for port in (self.proxy_port, self.second_proxy_port)]

    def key_cache(self):
        """How many branch keys and callers each proxy remembers."""
        found = {}
        for number, port in enumerate(self.metrics_ports, 1):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                families = text_string_to_metric_families(answer.read().decode())
            found[f"proxy-{number}"] = {sample.labels["kind"]: int(sample.value) for family in families for sample in family.samples
                                        if sample.name == "claviger_key_cache_entries"}
        return found


class World:
    """Everything that runs."""

    def __init__(self, folder, relays):
        self.trusted = None
        self.storage = endpoints.seaweedfs(folder)
        try:
            port = relays.between(STORAGE, int(self.storage.url.rpartition(":")[2]), HTTP_KINDS)
            self.trusted = Soaked(folder, (f"http://127.0.0.1:{port}", self.storage.access_key, self.storage.secret_key), relays)
            self.trusted.start()
        except BaseException:
            self.stop()
            raise

    @property
    def processes(self):
        return {**self.trusted.processes, "database": self.trusted.postgres.process, "storage": self.storage.process}

    def sample(self):
        """What each process takes now, and what the proxies remember."""
        return {"processes": {name: taken(process.child.pid) for name, process in self.processes.items()}, "key cache": self.trusted.key_cache()}

    def broken(self):
        """What no process may do: end, or panic."""
        texts = [f"{name} ended with {process.child.poll()}" for name, process in self.processes.items() if process.child.poll() is not None]
        ours = self.trusted.processes.items()
        return texts + [f"{name} panicked" for name, process in ours if "panicked" in process.log.read_text(errors="replace")]

    def stop(self):
        if self.trusted is not None:
            self.trusted.kill()
        self.storage.stop()
