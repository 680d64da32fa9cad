"""The files in deploy/ and examples/terraform, checked by the tools of those whom they are for, as far as these can be had.

Environment:
  CLAVIGER_BIN   the program, default target/release/claviger
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "custodian"), str(HERE.parent / "interop")]

from servers import clean_environment, program, tool  # noqa: E402


def run(*command, cwd=None, environment=None, stdin=None):
    """Runs a program; gives its exit code and what it printed."""
    given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=110,
                          check=False, **given)


def must(*command, **settings):
    done = run(*command, **settings)
    assert done.returncode == 0, f"{command[0]}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def problems(file, credentials=None):
    """What `claviger check` says of a configuration, as (key, problem)."""
    extra = {"CREDENTIALS_DIRECTORY": str(credentials)} if credentials else {}
    done = run(program(), "check", "--config", file, "--json", environment=clean_environment(file.parent, **extra))
    assert done.returncode in (0, 2), done.stderr
    found = [(problem["key"], problem["problem"]) for problem in json.loads(done.stdout)["problems"]]
    assert bool(found) == (done.returncode == 2)
    return found


@pytest.fixture(scope="session")
def material(tmp_path_factory):
    """What `claviger init` makes, and every name that the deployments' configurations have for a part of it."""
    home = tmp_path_factory.mktemp("material")
    made = home / "made"
    must(program(), "init", made, "--kek", "records", environment=clean_environment(home))
    (made / "secrets/storage.key").write_text("the-storage-servers-secret\n")
    credentials = home / "credentials"
    credentials.mkdir(mode=0o700)
    for file in [*(made / "certs").iterdir(), *(made / "secrets").iterdir()]:
        shutil.copy(file, credentials / file.name)
    others = {
        "clients_first-application.key": "client.key", "client-FIRSTAPPLICATION": "client.key", "client-REPORTS": "storage.key",
        "storage-ca.crt": "ca.crt", "postgres": "client.key", "postgres-ca.crt": "ca.crt", "passphrase": "client.key",
    }
    for name, source in others.items():
        shutil.copy(credentials / source, credentials / name)
    return credentials


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The Debian package of the program under test, and the folder that it was unpacked into."""
    home = tmp_path_factory.mktemp("package")
    # This cargo-deb is older than the edition, of which it needs to know nothing: what it packs is built.
    mirror = home / "mirror"
    mirror.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in ("target", "Cargo.toml", ".git"):
            (mirror / entry.name).symlink_to(entry)
    (mirror / "Cargo.toml").write_text((ROOT / "Cargo.toml").read_text().replace('edition = "2024"', 'edition = "2021"'))
    built = home / "target/release/claviger"
    built.parent.mkdir(parents=True)
    must("strip", "--strip-all", "-o", built, program())
    deb, root = home / "claviger.deb", home / "root"
    environment = {**os.environ, "CARGO_TARGET_DIR": str(home / "target")}
    must(tool("cargo-deb"), "--no-build", "--no-strip", "-Z", "gz", "--fast", "--output", deb, cwd=mirror, environment=environment)
    must("dpkg-deb", "-x", deb, root)
    return deb, root
