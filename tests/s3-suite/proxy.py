"""The proxy in front of a storage server, with a custodian of its own; the suite's identities are clients of it."""

import secrets

from common import Identity, Process, clean_environment, free_ports
from deployment import Deployment
from storage import KMS_KEYS

GRANT = '[[client.grant]]\nbuckets = ["*"]\naccess = ["read", "write", "delete", "list", "bucket", "configure"]\n'


class Proxy:
    """Two proxies under one custodian, over TLS at `url` and over HTTP at `plain_url`. `main` and `alt` have credentials of
    their own on the storage server."""

    def __init__(self, folder, server):
        own = server.identities["claviger"]
        self.deployment = Deployment(folder, (server.url, own.access_key, own.secret_key))
        self.identities = {}
        for name in ("main", "alt"):
            self.identities[name] = Identity(name, f"CLAV{name.upper()}", secrets.token_hex(20))
            self._add_client(self.identities[name], server.identities[name])
        self._admit_anonymous()
        keks = ", ".join(f'"{name}"' for name in KMS_KEYS)
        self.deployment.edit("proxy.toml", r'(?m)^kek = "records"$', f'kek = "records"\nfurther_keks = [{keks}]')
        self.url = f"https://127.0.0.1:{self.deployment.proxy_port}"
        self.ca = self.deployment.dir / "certs/ca.crt"
        self.plain = None
        try:
            self.deployment.start_custodian()
            for name in ("records", *KMS_KEYS):
                self.deployment.must("key", "create", name)
            self.deployment.start_proxy()
            self._start_plain()
        except BaseException:
            self.stop()
            raise

    def _add_client(self, client, there):
        folder = self.deployment.dir
        for name, secret in ((f"{client.name}.key", client.secret_key), (f"{client.name}-storage.key", there.secret_key)):
            (folder / "secrets" / name).touch(mode=0o600)
            (folder / "secrets" / name).write_text(secret)
        section = (f'\n[[client]]\naccess_key = "{client.access_key}"\nsecret_key_file = "secrets/{client.name}.key"\n'
                   f'principal = "{client.name}"\nreason = "customer-initiated"\nstorage_access_key = "{there.access_key}"\n'
                   f'storage_secret_key_file = "secrets/{client.name}-storage.key"\n{GRANT}')
        path = folder / "proxy.toml"
        path.write_text(path.read_text() + section)

    def _admit_anonymous(self):
        """What the storage server opens to everybody is open here, too."""
        path = self.deployment.dir / "proxy.toml"
        grant = GRANT.replace("[[client.grant]]", "[[anonymous.grant]]").replace(', "bucket"', "")
        path.write_text(f'{path.read_text()}\n[anonymous]\nreason = "customer-initiated"\n\n{grant}')

    def _start_plain(self):
        """The second proxy, with the same settings but for the transport, and a log of its own."""
        port, = free_ports(1)
        self.plain_url = f"http://127.0.0.1:{port}"
        text = (self.deployment.dir / "proxy.toml").read_text()
        for old, new in (
            (f'listen = "127.0.0.1:{self.deployment.proxy_port}"', f'listen = "127.0.0.1:{port}"\nplain_http_on_loopback = true'),
            ('certificate_file = "certs/proxy.crt"\nkey_file = "certs/proxy.key"\n', ""),
            ('folder = "access-log"', 'folder = "access-log-plain"'),
        ):
            assert text.count(old) == 1, f"{old} in proxy.toml: {text.count(old)} times"
            text = text.replace(old, new)
        config = self.deployment.dir / "plain.toml"
        config.write_text(text)
        home = self.deployment.home
        command = [self.deployment.binary, "proxy", "--config", config]
        self.plain = Process("proxy-plain", command, home, clean_environment(home, CLAVIGER_LOG="info"))
        self.plain.wait_until(lambda: "the proxy serves" in self.plain.log_tail(), "line that says it serves")

    def stop(self):
        if self.plain:
            self.plain.kill()
        self.deployment.kill()
