"""The units: what systemd's own tools say of them, and whether they fit the program."""

import re
import shutil
from pathlib import Path

import pytest
import units
from conftest import ROOT, must, run
from servers import program
from units import SERVICES, settings

# docs/OPERATING.md names it, too.
EXPOSURE_MAX = 1.2


def test_systemd_finds_nothing_wrong_with_the_units_of_the_package(package):
    _, root = package
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True, dirs_exist_ok=True)
    (root / "bin").mkdir(exist_ok=True)
    shutil.copy(shutil.which("kill"), root / "bin/kill")
    names = [*SERVICES, "claviger-gc.timer"]
    done = run("systemd-analyze", "verify", f"--root={root}", *names)
    # It looks for manual pages and for what else is wrong with the machine; ours are these.
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "claviger" in line]
    assert ours == []
    broken = root / "usr/lib/systemd/system/claviger-proxy.service"
    broken.write_text(broken.read_text().replace("ProtectSystem=", "ProtectSystems="))
    done = run("systemd-analyze", "verify", f"--root={root}", "claviger-proxy.service")
    assert "ProtectSystems" in done.stdout + done.stderr, "it does look"


@pytest.mark.parametrize("name", SERVICES)
def test_its_exposure_is_what_the_guide_says(name):
    shown = must("systemd-analyze", "security", "--offline=yes", units.FOLDER / name)
    exposure = float(re.search(r"Overall exposure level for .*: ([0-9.]+)", shown)[1])
    assert exposure <= EXPOSURE_MAX
    assert f"at most {EXPOSURE_MAX}" in (ROOT / "docs/OPERATING.md").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_what_it_starts_is_a_command_of_the_program(name):
    words = settings(name)["ExecStart"][0].replace("%S", "/var/lib").replace("%d", "/run/credentials").split()
    assert words[0] == "/usr/bin/claviger"
    assert run(program(), *words[1:], "--help").returncode == 0
    assert run(program(), *words[1:], "--no-such-option", "--help").returncode == 2, "it does look"


@pytest.mark.parametrize(("name", "configuration"), [
    ("claviger-proxy.service", "proxy.toml"), ("claviger-maintain.service", "proxy.toml"), ("claviger-gc.service", "proxy.toml"),
    ("claviger-custodian.service", "custodian.toml")])
def test_it_loads_what_its_configuration_asks_for(name, configuration):
    loaded = {value.split(":")[0]: Path(value.split(":")[1]) for value in settings(name)["LoadCredential"]}
    text = re.sub(r"(?m)^#.*", "", (units.FOLDER / configuration).read_text())
    for asked in re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/([^\"]+)", text):
        # A folder's files go by its name, too.
        assert asked in loaded or asked.split("_")[0] in loaded, asked
    folders = {"certs", "secrets"}
    assert all(path.relative_to("/etc/claviger").parts[0] in folders for path in loaded.values())


@pytest.mark.parametrize(("name", "configuration"), [
    ("claviger-proxy.service", "proxy.toml"), ("claviger-custodian.service", "custodian.toml")])
def test_its_stop_waits_for_the_drain(name, configuration):
    drain_s = int(re.search(r"(?m)^drain_s = (\d+)", (units.FOLDER / configuration).read_text())[1])
    assert int(settings(name)["TimeoutStopSec"][0]) == drain_s + 15


def test_the_users_of_the_units_are_made(package):
    _, root = package
    must("systemd-sysusers", f"--root={root}")
    must("systemd-tmpfiles", f"--root={root}", "--create", "claviger.conf")
    users = {line.split(":")[0] for line in (root / "etc/passwd").read_text().splitlines()}
    wanted = {value for name in SERVICES for value in settings(name).get("User", [])}
    assert wanted == {"claviger-proxy", "claviger-custodian"} and wanted <= users
    for folder in ("certs", "secrets", "secrets/clients"):
        assert (root / "etc/claviger" / folder).stat().st_mode & 0o777 == 0o700
    for user in wanted:
        state = root / "var/lib" / user
        assert state.stat().st_mode & 0o777 == 0o700 and f"{user}:x:{state.stat().st_uid}:" in (root / "etc/passwd").read_text()
