"""Changing a running proxy's configuration, certificates and secrets, under an application that never sees an error."""

import os
import re
import signal
import socket
import ssl
import threading
import time

import pytest
from botocore.exceptions import ClientError

import target as targets
from deployment import Deployment

pytestmark = pytest.mark.waits

IN_FORCE = "the changed configuration is in force"
WITHIN_S = 20


class Reader(threading.Thread):
    """Writes and reads all the time. What it saw of errors stands in `errors`."""

    def __init__(self, s3):
        super().__init__(daemon=True)
        self.s3, self.done, self.errors, self.stopped = s3, 0, [], threading.Event()

    def run(self):
        while not self.stopped.is_set():
            body = str(self.done).encode()
            try:
                self.s3.put_object(Bucket="reloaded", Key="running", Body=body)
                assert self.s3.get_object(Bucket="reloaded", Key="running")["Body"].read() == body
            except Exception as error:  # noqa: BLE001: whatever it is, an application should not see it
                self.errors.append(error)
            self.done += 1


class Proxy:
    """The proxy's log since the last look at it, and its files."""

    def __init__(self, deployment):
        self.deployment, self.seen = deployment, 0

    def says(self, what):
        """Waits for a line with `what` among those that were not looked at yet."""
        def line():
            text = self.deployment.proxy.log.read_text(errors="replace")
            found = text.find(what, self.seen)
            if found >= 0:
                self.seen = text.find("\n", found) + 1
            return found >= 0

        begun = time.monotonic()
        self.deployment.proxy.wait_until(line, f"line with {what!r}")
        assert time.monotonic() - begun < WITHIN_S

    def write(self, text):
        (self.deployment.dir / "proxy.toml").write_text(text)

    def certificate(self):
        """The serial number of the certificate that a new connection is shown."""
        context = ssl.create_default_context(cafile=str(self.deployment.dir / "certs/ca.crt"))
        address = ("localhost", self.deployment.proxy_port)
        with socket.create_connection(address) as plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
            return secure.getpeercert()["serialNumber"]


@pytest.fixture(scope="module")
def deployment(weed, tmp_path_factory):
    made = Deployment(tmp_path_factory.mktemp("reload"), (weed.url, weed.access_key, weed.secret_key))
    made.edit("proxy.toml", r'state_bucket = ".*"', 'state_bucket = "reload-state"')
    try:
        made.start_custodian()
        made.must("key", "create", "records")
        made.s3 = made.start_proxy()
        made.s3.create_bucket(Bucket="reloaded")
        yield made
    finally:
        made.kill()


@pytest.fixture
def proxy(deployment):
    """A proxy under load, whose configuration is put back at the end."""
    text = (deployment.dir / "proxy.toml").read_text()
    watched, application = Proxy(deployment), Reader(deployment.client(deployment.proxy_port))
    watched.seen = len(deployment.proxy.log.read_text(errors="replace"))
    application.start()
    yield watched
    if (deployment.dir / "proxy.toml").read_text() != text:
        watched.write(text)
        watched.says(IN_FORCE)
    application.stopped.set()
    application.join()
    assert application.done > 0 and not application.errors, application.errors[:3]


def refused(s3, code):
    with pytest.raises(ClientError) as error:
        s3.list_objects_v2(Bucket="reloaded")
    assert targets.error_code(error.value) == code


def test_a_client_comes_and_goes(deployment, proxy):
    text = (deployment.dir / "proxy.toml").read_text()
    secret = deployment.dir / "secrets/second.key"
    secret.write_text("a second application's secret, made by hand".replace(" ", "-"))
    secret.chmod(0o600)
    second = targets.s3_client(f"https://localhost:{deployment.proxy_port}", "SECOND", secret.read_text(),
                               ca=str(deployment.dir / "certs/ca.crt"))
    refused(second, "InvalidAccessKeyId")
    proxy.write(text + '\n[[client]]\naccess_key = "SECOND"\nsecret_key_file = "secrets/second.key"\nprincipal = "second"\n'
                '[[client.grant]]\nbuckets = ["reloaded"]\naccess = ["list"]\n')
    proxy.says(IN_FORCE)
    assert "Contents" in second.list_objects_v2(Bucket="reloaded")
    with pytest.raises(ClientError, match="AccessDenied|403"):
        second.put_object(Bucket="reloaded", Key="no", Body=b"")
    # Another secret in the same file.
    secret.write_text("another-secret-of-the-second-application")
    proxy.says(IN_FORCE)
    refused(second, "SignatureDoesNotMatch")
    proxy.write(text)
    proxy.says(IN_FORCE)
    refused(second, "InvalidAccessKeyId")


@pytest.mark.parametrize("pattern, replacement, told", [
    (r'region = "us-east-1"', "region = 7", "expected a text"),
    (r"drain_s = 30", "drain_seconds = 30", "unknown key"),
    (r'kek = "records"', 'kek = "unknown-there"', "unknown-there cannot be used"),
    (r'certificate_file = "certs/proxy.crt"', 'certificate_file = "certs/none.crt"', "cannot read"),
    (r'key_file = "certs/proxy.key"', 'key_file = "certs/custodian.key"', "do not go together"),
    (r'listen = "127.0.0.1:\d+"', 'listen = "127.0.0.1:1"', "takes a restart"),
    (r"drain_s = 30", "drain_s = 29", "takes a restart"),
])
def test_what_does_not_do_leaves_the_one_in_force(deployment, proxy, pattern, replacement, told):
    text = (deployment.dir / "proxy.toml").read_text()
    changed, count = re.subn(pattern, replacement, text, count=1)
    assert count == 1, pattern
    proxy.write(changed)
    proxy.says(told)
    time.sleep(0.5)
    assert deployment.s3.list_objects_v2(Bucket="reloaded")["KeyCount"] > 0


def test_certificates_are_replaced_without_a_connection_lost(deployment, proxy):
    before = proxy.certificate()
    with socket.create_connection(("localhost", deployment.proxy_port)) as plain:
        context = ssl.create_default_context(cafile=str(deployment.dir / "certs/ca.crt"))
        kept = context.wrap_socket(plain, server_hostname="localhost")
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        kept.sendall(request)
        assert kept.recv(65536).startswith(b"HTTP/1.1 403")
        # The same CA's, for other names: that of the custodian has `localhost` in it, too.
        certs = deployment.dir / "certs"
        own = {name: (certs / f"proxy.{name}").read_bytes() for name in ("crt", "key")}
        for name in ("crt", "key"):
            (certs / f"proxy.{name}").write_bytes((certs / f"custodian.{name}").read_bytes())
        proxy.says(IN_FORCE)
        assert proxy.certificate() != before
        kept.sendall(request)
        assert kept.recv(65536).startswith(b"HTTP/1.1 403"), "a connection from before goes on"
    for name in ("crt", "key"):
        (certs / f"proxy.{name}").write_bytes(own[name])
    proxy.says(IN_FORCE)
    assert proxy.certificate() == before


def test_a_pipe_in_the_place_of_a_certificate_stops_nobody(deployment, proxy):
    before = proxy.certificate()
    file = deployment.dir / "certs/proxy.crt"
    own = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    proxy.says("not a regular file")
    assert proxy.certificate() == before, "new connections are taken under the former certificate"
    file.unlink()
    file.write_bytes(own)
    proxy.says(IN_FORCE)


def test_another_storage_identity_is_taken_with_what_runs(deployment, proxy):
    secret = deployment.dir / "secrets/storage.key"
    right = secret.read_text()
    secret.write_text(right + "\n")
    proxy.says(IN_FORCE)
    assert deployment.s3.list_objects_v2(Bucket="reloaded")["KeyCount"] > 0


def test_sighup_has_everything_read_again(deployment, proxy):
    deployment.proxy.child.send_signal(signal.SIGHUP)
    proxy.says(IN_FORCE)
