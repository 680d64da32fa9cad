"""The units under a systemd that was started for them, from the package to a proxy that serves. Needs root, as its namespaces do."""

import re
import shutil

from conftest import HERE, must, run

SAID = {
    "custodian": "active/listening",
    # Sealed, it has nobody to ask, and is started again and again.
    "proxy while sealed": "activating",
    "proxy": "active/serving",
    "unsigned": "403",
    "privileges": "0000000000000000/0000000000000000/1/2",
    "user": "claviger-proxy",
    "core": "0/0",
    "credentials": "400 claviger-proxy",
    "written": "no",
    "maintain": "active",
    "witness": "active/1",
    "restarted": "active",
    "stopped": "success/success",
    "wrong": "failed/2",
}


def test_from_the_package_to_a_proxy_that_serves(package, tmp_path):
    deb, _ = package
    must("dpkg-deb", "-x", deb, tmp_path / "package")
    shutil.copy(HERE / "booted/trial.sh", tmp_path)
    done = run("bash", HERE / "booted/boot.sh", tmp_path)
    out = tmp_path / "out"
    log = (out / "log").read_text()[-12000:] if (out / "log").exists() else f"{done.stdout}{done.stderr}"
    said = dict(re.findall(r"(?m)^([a-z ]+)=(.*)$", (out / "said").read_text())) if (out / "said").exists() else {}
    assert said == SAID, log
