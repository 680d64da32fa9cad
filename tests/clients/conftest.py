"""The client matrix: programs that people use with S3, each unchanged and used for what people use it for.

Runs over TLS against `claviger demo` in front of SeaweedFS; a few clients also in front of the demo's own storage server.
What is not installed is installed, and is never skipped.

Options and environment:
  --all                    also the tests marked `slow`
  CLAVIGER_BIN             the program, default target/release/claviger
  CLAVIGER_TEST_DIRECT=1   to debug the tests themselves: no proxy, the clients talk to SeaweedFS
"""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "interop")]

import install  # noqa: E402

install.python_packages()

import endpoints  # noqa: E402
import fixtures  # noqa: E402
from fixtures import prefix, pytest_runtest_makereport, weed  # noqa: E402, F401

BOTH = ["seaweedfs", "embedded"]


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also what is marked slow")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long, or is hard to install; only with --all")
    config.addinivalue_line("markers", "embedded(only=False): also, or only, in front of the demo's own storage server")
    endpoints.forget_the_user()


def pytest_generate_tests(metafunc):
    if "target" not in metafunc.fixturenames:
        return
    embedded = metafunc.definition.get_closest_marker("embedded")
    found = BOTH[:1] if embedded is None else BOTH[1:] if embedded.kwargs.get("only") else BOTH
    backends = ["direct"] if endpoints.DIRECT else found
    metafunc.parametrize("target", backends, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """One storage server after the other, and the search for plaintext after all that was written there."""
    fixtures.one_server_after_the_other(items, BOTH)
    if not config.getoption("--all"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def target(request, tmp_path_factory):
    """The endpoint under test, in front of the storage server that the parameter names."""
    weed = request.getfixturevalue("weed") if request.param != "embedded" else None
    with endpoints.endpoint(request.param, tmp_path_factory.mktemp(request.param), weed) as found:
        yield found
