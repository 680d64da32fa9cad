"""Every test runs against `claviger demo` in front of each storage server in turn, once with OpenBao in the custodian's place.

Environment:
  CLAVIGER_BIN                             the program, default target/release/claviger
  CLAVIGER_TEST_S3_URL, _KEY, _SECRET, _DIR  one more storage server, started by hand (Garage, Ceph RGW, …), and the folder of its files
  CLAVIGER_TEST_DIRECT=1                   to debug the tests themselves: no proxy, clients talk to SeaweedFS. What only
                                           Claviger does has to fail then, the search for plaintext above all.
"""

import os

import pytest

import clients
import endpoints
import fixtures
import target as targets
from fixtures import prefix, pytest_runtest_makereport, weed  # noqa: F401

EXTERNAL = [os.environ.get(f"CLAVIGER_TEST_S3_{name}") for name in ("URL", "KEY", "SECRET", "DIR")]
BACKENDS = ["direct"] if endpoints.DIRECT else ["embedded", "openbao", "seaweedfs"] + (["external"] if any(EXTERNAL) else [])


def pytest_configure(config):
    config.addinivalue_line("markers", "waits: mostly waits and needs no release build, so that it may run while the compiler works")
    config.addinivalue_line("markers", "backends(*names): only before these storage servers")
    if any(EXTERNAL) and not all(EXTERNAL):
        raise pytest.UsageError("CLAVIGER_TEST_S3_URL, _KEY, _SECRET and _DIR belong together")
    endpoints.forget_the_user()


def pytest_generate_tests(metafunc):
    if "target" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("backends")
        backends = [backend for backend in BACKENDS if marked is None or backend in marked.args]
        metafunc.parametrize("target", backends, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """One storage server after the other; the search for plaintext after all that was written there."""
    fixtures.one_server_after_the_other(items, BACKENDS)


def pytest_terminal_summary(terminalreporter):
    if targets.FACTS:
        terminalreporter.section("what the storage servers can do")
        for fact in sorted(set(targets.FACTS)):
            terminalreporter.write_line(fact)


@pytest.fixture(scope="session")
def target(request, tmp_path_factory):
    """The endpoint under test, in front of the storage server that the parameter names."""
    folder = tmp_path_factory.mktemp(request.param)
    weed = request.getfixturevalue("weed") if request.param in ("seaweedfs", "direct") else None
    with endpoints.endpoint(request.param, folder, weed, EXTERNAL if request.param == "external" else None) as found:
        yield found


@pytest.fixture(params=clients.ALL, ids=lambda client: client.name)
def client(request, target, tmp_path):
    """Each client in turn, in a home of its own."""
    return request.param(target, tmp_path)
