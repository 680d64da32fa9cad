"""Starts what a test talks to: `claviger demo` in front of a storage server, or that server itself."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

import target as targets
from servers import Demo, OpenBao, SeaweedFS

DIRECT = bool(os.environ.get("CLAVIGER_TEST_DIRECT"))


def forget_the_user():
    """boto3 runs in this process: nothing of the user's may reach it."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "BOTO_"))]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="claviger-interop-home-")
    os.environ.update(HOME=home, AWS_EC2_METADATA_DISABLED="true", NO_PROXY="127.0.0.1")


def seaweedfs(folder):
    """A SeaweedFS server that takes writes."""
    server = SeaweedFS(folder)
    takes_writes(server, targets.s3_client(server.url, server.access_key, server.secret_key))
    return server


def takes_writes(server, client):
    """Waits until the SeaweedFS server takes writes from the client."""
    def writes():
        try:
            client.create_bucket(Bucket="warm-up")
        except (ClientError, BotoCoreError):
            pass
        try:
            client.put_object(Bucket="warm-up", Key="key", Body=b"warm")
            return True
        except (ClientError, BotoCoreError):
            return False

    server.wait(writes)


def _direct_exports(server):
    storage = {"URL": server.url, "ACCESS_KEY": server.access_key, "SECRET_KEY": server.secret_key}
    return {
        "AWS_ENDPOINT_URL": server.url, "AWS_CA_BUNDLE": "", "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_DEFAULT_REGION": "us-east-1",
        **{f"CLAVIGER_STORAGE_{name}": value for name, value in storage.items()},
    }


@contextmanager
def endpoint(name, folder, weed=None, external=None):
    """The endpoint under test. `weed` is the server behind "seaweedfs" and "direct", `external` what a tester started."""
    bao = OpenBao(folder) if name == "openbao" else None
    try:
        if name == "direct":
            yield targets.Target("direct", _direct_exports(weed), weed.data)
            return
        storage, stored = None, None
        if weed:
            storage, stored = (weed.url, weed.access_key, weed.secret_key), weed.data
        elif external:
            storage, stored = tuple(external[:3]), Path(external[3])
        demo = Demo(folder, storage, bao)
        try:
            yield targets.Target(name, demo.exports, stored or demo.dir / "storage", demo)
        except BaseException:
            demo.process.kill()
            raise
        demo.stop()
    finally:
        if bao:
            bao.stop()


def add_log(item, report):
    """A failed test shows the end of the proxy's log."""
    where = getattr(item, "funcargs", {}).get("target")
    if report.failed and where is not None and where.demo is not None:
        report.sections.append(("the proxy's log", where.demo.process.log_tail()))
