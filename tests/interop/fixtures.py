"""What tests of other people's clients have in common, here and in tests/clients: import it into a conftest."""

import uuid

import pytest

import endpoints


def one_server_after_the_other(items, backends):
    """Sorts tests by the storage server; the search for plaintext comes after all that was written there."""
    def order(item):
        backend = item.callspec.params.get("target") if hasattr(item, "callspec") else None
        return (backends.index(backend) if backend in backends else -1, item.path.name == "test_secrecy.py")
    items.sort(key=order)


@pytest.fixture(scope="session")
def weed(tmp_path_factory):
    """A SeaweedFS server, shared by all that store in it."""
    server = endpoints.seaweedfs(tmp_path_factory.mktemp("weed"))
    yield server
    server.stop()


@pytest.fixture
def prefix():
    """Keys of one test begin with this."""
    return f"{uuid.uuid4().hex[:12]}/"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    endpoints.add_log(item, report)
    return report
