"""The drill of tests/drill, with a few faults: proxies, custodians and three zones in namespaces, under load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import servers


def test_a_short_drill_passes(tmp_path):
    script = Path(__file__).parents[1] / "drill/run"
    command = [sys.executable, script, "--short", "--minutes", "0.5", "--folder", tmp_path / "drill", "--report", tmp_path / "report.json"]
    environment = servers.clean_environment(tmp_path, CLAVIGER_BIN=str(servers.program()), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["faults"]) == 4 and report["requests"] > 100 and report["read_back"] > 20, done.stdout
