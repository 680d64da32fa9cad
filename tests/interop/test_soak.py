"""The soak of tests/soak, for a moment: a share of all that proxies, custodians, database, storage server and clients say to each other fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import servers

pytestmark = pytest.mark.waits


def soaked(folder, *arguments):
    """How it ended, what it said and its report."""
    script = Path(__file__).parents[1] / "soak/run"
    command = [sys.executable, script, "--folder", folder / "soak", "--json", folder / "report.json", *arguments]
    environment = servers.clean_environment(folder, CLAVIGER_BIN=str(servers.program()), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    said = f"{done.stdout}\n{done.stderr}"
    assert (folder / "report.json").exists(), said
    return done.returncode, said, json.loads((folder / "report.json").read_text())


def test_a_short_soak_passes(tmp_path):
    code, said, report = soaked(tmp_path, "--minutes", "0.5", "--rate", "3")
    assert code == 0, said
    assert report["operations"] > 50 and report["read_back"] > 10, said
    assert report["errors"] and len({kind for boundary in report["boundaries"].values() for kind, count in boundary["faults"].items() if count}) > 4, said


def test_an_altered_byte_and_a_lost_write_are_noticed(tmp_path):
    code, said, report = soaked(tmp_path, "--minutes", "0.25", "--control", "flip", "--control", "loss")
    assert code == 1, said
    assert report["wrong"] and report["lost"] == 1, said
