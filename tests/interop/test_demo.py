"""The demo as a user meets it: it shows itself once and ends, and `inspect` needs no flags after env.sh."""

import json
import subprocess

from servers import Demo, clean_environment


def _claviger(binary, home, *arguments, **environment):
    return subprocess.run([binary, *arguments], cwd=home, env=clean_environment(home, **environment), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False)


def test_inspect_shows_the_envelope_and_no_plaintext(target, prefix, tmp_path):
    key = f"{prefix}object"
    target.s3.put_object(Bucket=target.bucket, Key=key, Body=target.body(70_000), Metadata={"owner": target.marker})
    for form in ([], ["--json"]):
        done = _claviger(target.demo.binary, tmp_path, "inspect", *form, f"{target.bucket}/{key}", **target.exports)
        assert done.returncode == 0, done.stderr
        assert "demo" in done.stdout, "the KEK's name"
        assert "70000" in done.stdout.replace(",", "").replace("_", ""), "the plaintext's size"
        assert target.marker not in done.stdout + done.stderr
        if form:
            json.loads(done.stdout)


def test_once_shows_what_there_is_to_see_and_ends(target, tmp_path):
    assert isinstance(target.demo, Demo)
    done = _claviger(target.demo.binary, tmp_path, "demo", "--once", "--dir", tmp_path / "once", "--listen", "127.0.0.1:0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
