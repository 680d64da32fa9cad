"""Installs the clients that are not there: Python's into this environment, others under target/ or with apt-get."""

import functools
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Package managers find their settings in the user's own home; the tests put another in its place.
HOME = {"HOME": os.environ.get("HOME", "/")}
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parents[1] / "target").absolute()


def _must(command, **options):
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800,
                          check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _is_met(line):
    name, _, version = line.partition("==")
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return found == version or (version.endswith("*") and found.startswith(version[:-1]))


def python_packages():
    """What requirements.txt names, beside the clients of the interop tests that tests/run installed."""
    file = HERE / "requirements.txt"
    if all(_is_met(line) for line in file.read_text().split("\n") if line and not line.startswith("#")):
        return
    # An environment that Debian's python3 made may have no pip of its own; another one can fill it.
    own = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    pip = [sys.executable, "-m", "pip"] if own else ["python3", "-m", "pip", "--python", sys.executable]
    _must([*pip, "install", "--quiet", "--no-input", "--disable-pip-version-check", "-r", file])


@functools.cache
def _update():
    _must(["apt-get", "update", "-qq"])


@functools.cache
def debian(program, package):
    """The path of Debian's `program`, whatever else of that name is on PATH."""
    path = Path("/usr/bin") / program
    if not path.exists():
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise RuntimeError(f"{package} is missing (Debian: apt-get install {package})")
        _update()
        _must(["apt-get", "install", "-qq", "-y", "--no-install-recommends", package], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    return str(path)


@functools.cache
def fuse():
    """The means to mount in user space."""
    debian("fusermount3", "fuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise RuntimeError("/dev/fuse cannot be opened: this machine lets nobody mount in user space")


@functools.cache
def node_packages():
    """The folder with javascript/package.json and what it asks for."""
    node, npm = (shutil.which(name) or debian(name, package) for name, package in (("node", "nodejs"), ("npm", "npm")))
    folder = TARGET / "clients-javascript"
    wanted = (HERE / "javascript/package.json").read_text()
    if not (folder / "package.json").exists() or (folder / "package.json").read_text() != wanted or not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(wanted)
        _must([npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"], cwd=folder, env={**os.environ, **HOME})
        (folder / "done").touch()
    return node, folder


@functools.cache
def rust_program():
    """The program rust/src/main.rs, which takes minutes to build the first time."""
    environment = {**os.environ, **HOME, "CARGO_TARGET_DIR": str(TARGET / "clients-rust")}
    _must(["cargo", "build", "--quiet", "--locked", "--manifest-path", HERE / "rust/Cargo.toml"], env=environment)
    return TARGET / "clients-rust/debug/claviger-client-matrix"
