"""Each configuration that is shipped is one that the program takes."""

import re
import shutil

import pytest
from conftest import ROOT, problems, run
from servers import program

SHIPPED = [
    ("systemd/proxy.toml", "proxy"), ("systemd/custodian.toml", "custodian"),
    ("docker/config/proxy.toml", "proxy"), ("docker/config/custodian.toml", "custodian"),
]


def placed(name, folder):
    """A copy, beside its policy, whose folders for state are in `folder`."""
    text = (ROOT / "deploy" / name).read_text()
    text = re.sub(r"/var/lib/claviger(-proxy|-custodian)?", str(folder), text)
    text = text.replace("/etc/claviger/policy.cedar", "policy.cedar")
    shutil.copy(ROOT / "examples/policies/default.cedar", folder / "policy.cedar")
    file = folder / name.rsplit("/", 1)[1]
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", [name for name, _ in SHIPPED])
def test_it_is_right_once_its_credentials_are_there(name, material, tmp_path):
    assert problems(placed(name, tmp_path), material) == []


@pytest.mark.parametrize("name", [name for name, _ in SHIPPED])
def test_without_them_each_is_reported_and_nothing_else(name, tmp_path):
    file = placed(name, tmp_path)
    asked = re.findall(r'(?m)^(\w+) = "\$\{CREDENTIALS_DIRECTORY\}/', file.read_text())
    found = problems(file)
    assert sorted(key.rsplit(".", 1)[1] for key, _ in found) == sorted(asked)
    assert all("$CREDENTIALS_DIRECTORY is not set" in problem for _, problem in found), found


def test_the_custodians_is_right_with_the_folder_of_certificates_in_the_credentials_place(material, tmp_path):
    certs = material.parent / "made/certs"
    assert problems(placed("systemd/custodian.toml", tmp_path), certs) == [], "the guide makes the store so"


def test_the_witness_takes_its_configuration(material, tmp_path):
    shutil.copy(material.parent / "made/access-log.vkey", tmp_path / "audit.vkey")
    text = (ROOT / "deploy/systemd/witness.toml").read_text().replace("/etc/claviger/", f"{tmp_path}/")
    for added, code, told in [("", 1, "absent.key"), ("unknown = 1\n", 2, "unknown")]:
        (tmp_path / "witness.toml").write_text(text + added)
        done = run(program(), "audit", "witness", "--config", tmp_path / "witness.toml", "--state", tmp_path / "state",
                   "--key-file", tmp_path / "absent.key", "--once")
        assert (done.returncode, told in done.stderr) == (code, True), done.stderr
