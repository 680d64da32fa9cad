"""The same requests to `claviger custodian` and to a real OpenBao server.

Environment:
  CLAVIGER_BIN                   the program, default target/release/claviger
  CLAVIGER_TEST_CUSTODIAN=bao    to check the tests themselves: a second OpenBao in the custodian's place
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "interop")]

from bao import OpenBao  # noqa: E402
from custodian import Custodian  # noqa: E402
from pki import Authority  # noqa: E402

# An officer, because only officers give shares; what this one asks for, two others approve.
OPERATOR = "spiffe://example.org/region/us/officer/carol"
TWO_BAOS = os.environ.get("CLAVIGER_TEST_CUSTODIAN") == "bao"


def _started(kind, folder):
    authority = Authority(folder)
    return kind(folder, authority, authority.client("operator", OPERATOR))


@pytest.fixture(scope="session")
def bao(tmp_path_factory):
    server = _started(OpenBao, tmp_path_factory.mktemp("bao"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def custodian(tmp_path_factory):
    server = _started(OpenBao if TWO_BAOS else Custodian, tmp_path_factory.mktemp("custodian"))
    yield server
    server.stop()
