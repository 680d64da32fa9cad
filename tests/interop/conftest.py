"""Every test runs against `claviger demo` in front of each storage server in turn, once with OpenBao in the custodian's place.

Environment:
  CLAVIGER_BIN                             the program, default target/release/claviger
  CLAVIGER_TEST_S3_URL, _KEY, _SECRET, _DIR  one more storage server, started by hand (Garage, Ceph RGW, …), and the folder of its files
  CLAVIGER_TEST_DIRECT=1                   to debug the tests themselves: no proxy, clients talk to SeaweedFS. What only
                                           Claviger does has to fail then, the search for plaintext above all.
"""

import os
import tempfile
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import clients
import target as targets
from servers import Demo, OpenBao, SeaweedFS

EXTERNAL = [os.environ.get(f"CLAVIGER_TEST_S3_{name}") for name in ("URL", "KEY", "SECRET", "DIR")]
DIRECT = bool(os.environ.get("CLAVIGER_TEST_DIRECT"))
BACKENDS = ["direct"] if DIRECT else ["embedded", "openbao", "seaweedfs"] + (["external"] if any(EXTERNAL) else [])


def pytest_configure(config):
    if any(EXTERNAL) and not all(EXTERNAL):
        raise pytest.UsageError("CLAVIGER_TEST_S3_URL, _KEY, _SECRET and _DIR belong together")
    # boto3 runs in this process: nothing of the user's may reach it.
    home = tempfile.mkdtemp(prefix="claviger-interop-home-")
    for name in [name for name in os.environ if name.startswith(("AWS_", "BOTO_"))]:
        del os.environ[name]
    os.environ.update(HOME=home, AWS_EC2_METADATA_DISABLED="true", NO_PROXY="127.0.0.1")


def pytest_generate_tests(metafunc):
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", BACKENDS, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """One storage server after the other; the search for plaintext after all that was written there."""
    def order(item):
        backend = item.callspec.params.get("target") if hasattr(item, "callspec") else None
        return (BACKENDS.index(backend) if backend else -1, item.path.name == "test_secrecy.py")
    items.sort(key=order)


def pytest_terminal_summary(terminalreporter):
    if targets.FACTS:
        terminalreporter.section("what the storage servers can do")
        for fact in sorted(set(targets.FACTS)):
            terminalreporter.write_line(fact)


def _seaweedfs(folder):
    server = SeaweedFS(folder)
    client = targets.s3_client(server.url, server.access_key, server.secret_key)

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
    return server


def _direct_exports(server):
    storage = {"URL": server.url, "ACCESS_KEY": server.access_key, "SECRET_KEY": server.secret_key}
    return {
        "AWS_ENDPOINT_URL": server.url, "AWS_CA_BUNDLE": "", "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_DEFAULT_REGION": "us-east-1",
        **{f"CLAVIGER_STORAGE_{name}": value for name, value in storage.items()},
    }


@pytest.fixture(scope="session")
def weed(tmp_path_factory):
    """A SeaweedFS server, shared by all that store in it."""
    server = _seaweedfs(tmp_path_factory.mktemp("weed"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def target(request, tmp_path_factory):
    """The endpoint under test, in front of the storage server that the parameter names."""
    folder = tmp_path_factory.mktemp(request.param)
    weed = request.getfixturevalue("weed") if request.param in ("seaweedfs", "direct") else None
    bao = OpenBao(folder) if request.param == "openbao" else None
    try:
        if request.param == "direct":
            yield targets.Target("direct", _direct_exports(weed), weed.data)
            return
        storage, stored = None, None
        if weed:
            storage, stored = (weed.url, weed.access_key, weed.secret_key), weed.data
        elif request.param == "external":
            storage, stored = tuple(EXTERNAL[:3]), Path(EXTERNAL[3])
        demo = Demo(folder, storage, bao)
        try:
            yield targets.Target(request.param, demo.exports, stored or demo.dir / "storage", demo)
        except BaseException:
            demo.process.kill()
            raise
        demo.stop()
    finally:
        if bao:
            bao.stop()


@pytest.fixture
def prefix():
    """Keys of one test begin with this."""
    return f"{uuid.uuid4().hex[:12]}/"


@pytest.fixture(params=clients.ALL, ids=lambda client: client.name)
def client(request, target, tmp_path):
    """Each client in turn, in a home of its own."""
    return request.param(target, tmp_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of the proxy's log."""
    report = yield
    where = getattr(item, "funcargs", {}).get("target")
    if report.failed and where is not None and where.demo is not None:
        report.sections.append(("the proxy's log", where.demo.process.log_tail()))
    return report
