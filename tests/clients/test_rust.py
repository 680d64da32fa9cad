"""The AWS SDK for Rust. Slow: it takes minutes to build."""

import subprocess

import pytest
import urllib3

import files
import install
from files import LARGE, PART
from servers import clean_environment


@pytest.mark.slow
def test_the_sdk_for_rust_does_what_applications_do(target, prefix, tmp_path):
    program = install.rust_program()
    wanted = files.write(target, tmp_path / "up", LARGE)
    exports = {name: value for name, value in target.exports.items() if name.startswith("AWS_") and value}
    environment = clean_environment(tmp_path, **exports, AWS_REGION=target.region, **({"SSL_CERT_FILE": target.ca} if target.ca else {}))
    command = [program, target.bucket, prefix, tmp_path / "up", str(PART)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert urllib3.PoolManager(ca_certs=target.ca).request("GET", done.stdout.strip()).data == b"first"
    stored = files.stored(target, prefix)
    assert stored == dict.fromkeys(["assembled", "copied", "large"], wanted) | {"small": files.sha256(b"first")}
    assert files.no_uploads_left(target, prefix)
