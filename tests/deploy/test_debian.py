"""The Debian package: what is in it, and that it installs and goes away again in a root of its own."""

import os
import shutil

import pytest
from conftest import ROOT, must

CONFFILES = ["/etc/claviger/custodian.toml", "/etc/claviger/policy.cedar", "/etc/claviger/proxy.toml", "/etc/claviger/witness.toml"]


def test_each_file_is_where_it_belongs_and_no_secret_is_among_them(package):
    deb, _ = package
    lines = [line.split() for line in must("dpkg-deb", "-c", deb).splitlines()]
    files = {line[5].lstrip("./"): (line[0], line[1]) for line in lines if not line[5].endswith("/")}
    assert all(owner in ("0/0", "root/root") for _, owner in files.values())
    assert files["usr/bin/claviger"][0] == "-rwxr-xr-x"
    assert all(mode == "-rw-r--r--" for name, (mode, _) in files.items() if name != "usr/bin/claviger")
    units = [path.name for pattern in ("*.service", "*.timer") for path in (ROOT / "deploy/systemd").glob(pattern)]
    wanted = {f"usr/lib/systemd/system/{name}" for name in units} | {name.lstrip("/") for name in CONFFILES} | {
        "usr/lib/sysusers.d/claviger.conf", "usr/lib/tmpfiles.d/claviger.conf", "usr/share/doc/claviger/OPERATING.md",
        "usr/share/doc/claviger/copyright"}
    assert wanted <= set(files)
    assert not [name for name in files if name.endswith((".key", ".pem", ".crt"))]


def test_the_edited_configuration_outlives_an_upgrade_and_goes_with_a_purge_and_keys_never(package, tmp_path):
    deb, _ = package
    root = tmp_path / "root"
    database = root / "var/lib/dpkg"
    for folder in ("info", "updates", "triggers"):
        (database / folder).mkdir(parents=True)
    for file in ("status", "available"):
        (database / file).touch()
    # Its scripts run in that root, where there is neither a shell nor systemd: they are looked at below.
    dpkg = ["dpkg", f"--root={root}", "--force-not-root", "--force-depends", "--force-script-chrootless", "--log=/dev/null"]
    environment = {**os.environ, "DPKG_ROOT": str(root), "DEBIAN_FRONTEND": "noninteractive", "PATH": scripts_see_no_systemd(tmp_path)}
    must(*dpkg, "--install", deb, environment=environment)
    assert (root / "usr/bin/claviger").stat().st_size > 0
    edited, key = root / "etc/claviger/proxy.toml", root / "etc/claviger/secrets/storage.key"
    edited.write_text("# edited\n")
    key.parent.mkdir(exist_ok=True)
    key.write_text("secret")
    must(*dpkg, "--force-confold", "--install", deb, environment=environment)
    assert edited.read_text() == "# edited\n"
    must(*dpkg, "--remove", "claviger", environment=environment)
    assert edited.exists() and not (root / "usr/bin/claviger").exists()
    must(*dpkg, "--purge", "claviger", environment=environment)
    assert not edited.exists() and key.read_text() == "secret"


def scripts_see_no_systemd(tmp_path):
    """A PATH without the programs that would change this machine."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dpkg", "dpkg-deb", "dpkg-split", "dpkg-query", "tar", "rm", "diff", "ldconfig", "start-stop-daemon", "true",
                 "gzip", "xz", "cat"):
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if found:
            (programs / name).symlink_to(found)
    return str(programs)


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_its_scripts_are_posix_and_start_nothing(script):
    file = ROOT / "deploy/debian" / script
    must("dash", "-n", file)
    text = file.read_text()
    assert text.startswith("#!/bin/sh\n") and "set -e" in text
    commands = [line.strip() for line in text.splitlines() if "systemctl" in line or "invoke" in line]
    assert not [line for line in commands if " start" in line or "restart" in line or " enable" in line]
    assert file.stat().st_mode & 0o111
