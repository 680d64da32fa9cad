"""Dockerfile and compose file. No image is built here: that takes a daemon and base images from a registry."""

import json
import re

import pytest
import yaml
from conftest import ROOT, must, run
from servers import program, tool

FOLDER = ROOT / "deploy/docker"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
OURS = ["proxy", "custodian"]


def test_hadolint_finds_nothing(tmp_path):
    must(tool("hadolint"), FOLDER / "Dockerfile")
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp\n")
    assert run(tool("hadolint"), tmp_path / "Dockerfile").returncode != 0, "it does look"


def cargo_finds_its_targets(paths, folder):
    folder.mkdir(exist_ok=True)
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(ROOT / path)
    return run("cargo", "metadata", "--locked", "--offline", "--format-version", "1", cwd=folder).returncode == 0


def test_what_the_images_copy_is_there_and_passes_dockerignore(tmp_path):
    text = (FOLDER / "Dockerfile").read_text()
    let_through = re.findall(r"(?m)^!(.*)$", (ROOT / ".dockerignore").read_text())
    copied = [word for line in re.findall(r"(?m)^COPY (?!--)(.*) \S+$", text) for word in line.split()]
    assert sorted(copied) == sorted(let_through)
    assert all((ROOT / path).exists() for path in copied)
    assert cargo_finds_its_targets(copied, tmp_path), "with nothing but these"
    assert not cargo_finds_its_targets([path for path in copied if path != "src"], tmp_path / "less"), "it does look"
    stages = text.split("\nFROM ")
    assert stages[-1].startswith("scratch AS static")
    for stage in stages[-2:]:
        assert "USER 65532:65532" in stage and 'ENTRYPOINT ["/claviger"]' in stage and "RUN" not in stage


def test_compose_fits_the_specifications_schema(tmp_path):
    check = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    must(*check, FOLDER / "compose.yaml")
    (tmp_path / "compose.yaml").write_text((FOLDER / "compose.yaml").read_text().replace("read_only: true", "readonly: true"))
    assert run(*check, tmp_path / "compose.yaml").returncode != 0, "it does look"


@pytest.mark.parametrize("name", ["proxy", "custodian", "storage"])
def test_a_container_has_no_privileges(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"] and "privileged" not in service
    if name in OURS:
        assert service["user"] == "65532:65532"


@pytest.mark.parametrize("name", OURS)
def test_a_container_has_the_files_that_its_configuration_names(name):
    service = COMPOSE["services"][name]
    mounts = {mount["target"]: mount for mount in service["volumes"]}
    config = service["command"][service["command"].index("--config") + 1]
    text = (FOLDER / mounts[config]["source"]).read_text()
    asked = re.findall(r'(?m)^\w+ = "\$\{CREDENTIALS_DIRECTORY\}/(.*)"', text)
    assert sorted(asked) == sorted(service["secrets"]) and service["environment"] == {"CREDENTIALS_DIRECTORY": "/run/secrets"}
    named = re.findall(r'(?m)^(?:file|folder) = "(/[^"]+)"', text)
    assert named and all(any(path == target or path.startswith(f"{target}/") for target in mounts) for path in named)
    drain_s = int(re.search(r"(?m)^drain_s = (\d+)", text)[1])
    assert service["stop_grace_period"] == f"{drain_s + 15}s"
    assert run(program(), *service["command"], "--help").returncode == 0


def test_prepare_makes_what_compose_mounts(tmp_path):
    import running

    trial = running.Trial(tmp_path)
    for secret in COMPOSE["secrets"].values():
        file = tmp_path / secret["file"]
        assert file.stat().st_size > 0 and file.stat().st_mode & 0o077 == 0, file
    identity = json.loads((tmp_path / "deployment/secrets/s3.json").read_text())["identities"][0]["credentials"][0]
    assert identity["secretKey"] == (tmp_path / "deployment/secrets/storage.key").read_text().strip()
    assert f'access_key = "{identity["accessKey"]}"' in (trial.home / "config/proxy.toml").read_text()


def test_nobody_but_the_proxy_reaches_the_storage():
    networks = {name: set(service["networks"]) for name, service in COMPOSE["services"].items()}
    assert networks["storage"] == {"storage"} and COMPOSE["networks"]["storage"] == {"internal": True}
    assert "storage" not in networks["custodian"] and "ports" not in COMPOSE["services"]["storage"]
