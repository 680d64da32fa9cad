"""A real OpenBao server: TLS on a free port of 127.0.0.1, all in memory, unsealed, with Transit and certificate login."""

from exchange import Connection
from servers import Process, clean_environment, free_ports, tool

CONFIG = """\
ui = false
log_level = "warn"
disable_mlock = true
storage "inmem" {{}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_cert_file = "server.pem"
  tls_key_file = "server.key"
  tls_client_ca_file = "ca.pem"
}}
"""

# All that the custodian's clients can do, and no more: what else there is, such as making tokens, is not ours to compare.
POLICY = """\
path "transit/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/seal" { capabilities = ["update", "sudo"] }
"""


class OpenBao:
    """The server, and someone who may do everything with Transit."""

    name = "bao"

    def __init__(self, folder, authority, operator):
        authority.server()
        (self.port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca_file, self.operator = authority.file, operator
        (folder / "server.hcl").write_text(CONFIG.format(port=self.port))
        self.process = Process("bao", [tool("bao"), "server", "-config", "server.hcl"], folder, clean_environment(folder))
        self.anonymous = Connection(self.port, authority.file, operator, {})
        try:
            self._set_up()
        except BaseException:
            self.process.kill()
            raise

    def connection(self, headers=None):
        """The operator's, with a fresh token."""
        login = self.anonymous.request("POST", "/v1/auth/cert/login")
        assert login.status == 200, login
        return Connection(self.port, self.ca_file, self.operator, {"X-Vault-Token": login.body["auth"]["client_token"], **(headers or {})})

    def approve(self, answer):
        raise AssertionError(f"OpenBao does not ask for approvals: {answer}")

    def stop(self):
        self.process.kill()

    def _listens(self):
        try:
            return self.anonymous.request("GET", "/v1/sys/health").status
        except OSError:
            return None

    def _set_up(self):
        self.process.wait_until(self._listens, "answer")
        keys = self.anonymous.request("POST", "/v1/sys/init", {"secret_shares": 3, "secret_threshold": 2}).body
        self.shares = keys["keys_base64"]
        for share in self.shares[:2]:
            self.anonymous.request("POST", "/v1/sys/unseal", {"key": share})
        self.process.wait_until(lambda: self._listens() == 200, "unsealed state")
        root = {"X-Vault-Token": keys["root_token"]}

        def admin(path, body):
            answer = self.anonymous.request("POST", f"/v1/{path}", body, root)
            assert answer.status in (200, 204), (path, answer)

        admin("sys/mounts/transit", {"type": "transit"})
        # The custodian makes no keys that nobody asked for.
        admin("transit/config/keys", {"disable_upsert": True})
        admin("sys/auth/cert", {"type": "cert"})
        admin("sys/policies/acl/operator", {"policy": POLICY})
        admin("auth/cert/certs/operator", {"certificate": self.ca_file.read_text(), "token_policies": ["operator"], "token_ttl": "1h"})
