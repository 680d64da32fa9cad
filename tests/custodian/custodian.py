"""`claviger custodian`: mutual TLS on a free port of 127.0.0.1, a store of its own, a seal of three shares, and two officers."""

import os
import subprocess
from base64 import b64encode
from pathlib import Path

from exchange import Connection
from servers import Process, clean_environment, free_ports

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """\
[custodian]
listen = "127.0.0.1:{port}"
instance = "custodian-1"
certificate_file = "server.pem"
key_file = "server.key"
client_ca_file = "ca.pem"
default_jurisdiction = "us"

[store]
kind = "sqlite"
file = "custodian.db"

[[seal]]
kind = "shares"
threshold = 2
count = 3

[audit]
folder = "audit"
origin = "audit.test.claviger"

[policy]
file = "policy.cedar"

[keys]
insecure_retire_wait_s = 0

[approvals]
required = 2
"""

# Everybody everything: what is compared here is what comes after the policy.
POLICY = "permit (principal, action, resource);\n"


class Custodian:
    """The server, someone who may do everything with Transit, and two officers."""

    name = "custodian"

    def __init__(self, folder, authority, operator):
        authority.server()
        (self.port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca_file, self.operator = authority.file, operator
        self.officers = [authority.client(name, f"spiffe://example.org/region/us/officer/{name}") for name in ("alice", "bob")]
        (folder / "policy.cedar").write_text(POLICY)
        config = folder / "custodian.toml"
        config.write_text(CONFIG.format(port=self.port))
        program = Path(os.environ.get("CLAVIGER_BIN", ROOT / "target/release/claviger")).resolve()
        environment = clean_environment(folder)
        made = subprocess.run(
            [program, "custodian", "init", "--config", config, "--shares-to", folder / "shares"], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        assert made.returncode == 0, f"{made.stdout}{made.stderr}"
        self.shares = [path.read_text().strip() for path in sorted((folder / "shares").iterdir())]
        self.process = Process("custodian", [program, "custodian", "--config", config], folder, environment)
        self.anonymous = Connection(self.port, authority.file, operator, {})
        try:
            self._unseal()
        except BaseException:
            self.process.kill()
            raise

    def connection(self, headers=None):
        """The operator's. The certificate is enough; there is no token."""
        return Connection(self.port, self.ca_file, self.operator, headers or {})

    def approve(self, answer):
        """Both officers sign what `answer` says has to be approved."""
        self.approve_proposal(answer.body["data"]["proposal_id"])

    def approve_proposal(self, proposal):
        path = f"/v1/sys/claviger/proposals/{proposal}"
        for officer in self.officers:
            connection = Connection(self.port, self.ca_file, officer, {})
            read = connection.request("GET", path)
            assert read.status == 200, read
            message = b"claviger/1 approval\0approve\0" + bytes.fromhex(read.body["data"]["hash"])
            signed = {"certificate": b64encode(officer.der()).decode(), "signature": b64encode(officer.sign(message)).decode()}
            approved = connection.request("POST", f"{path}/approve", signed)
            assert approved.status == 200, approved

    def stop(self):
        self.process.terminate()

    def _unseal(self):
        self.process.wait_until(self._listens, "answer")
        for share in self.shares[:2]:
            answer = self.anonymous.request("POST", "/v1/sys/unseal", {"key": share})
            assert answer.status == 200, answer
        self.process.wait_until(lambda: self._listens() == 200, "unsealed state")

    def _listens(self):
        try:
            return self.anonymous.request("GET", "/v1/sys/health").status
        except OSError:
            return None
