"""The processes under test: SeaweedFS as a storage server, and `claviger demo` in front of a storage server."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

READY_S = 90
STOP_S = 15

EXPORTS = (
    "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION",
    "CLAVIGER_STORAGE_URL", "CLAVIGER_STORAGE_ACCESS_KEY", "CLAVIGER_STORAGE_SECRET_KEY", "CLAVIGER_CONFIG", "VAULT_ADDR",
    "CLAVIGER_METRICS_URL",
)
# Of these, which are there depends on who is the custodian.
EXPORTS_OF_CUSTODY = (
    "VAULT_CACERT", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY", "CLAVIGER_TOKEN_FILE", "CLAVIGER_AUDIT_LOG", "CLAVIGER_AUDIT_KEY",
    "CLAVIGER_CUSTODIAN_METRICS_URL",
)


def tool(name):
    """The program `name`, from this interpreter's environment before PATH."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found, f"{name} is not installed; tests/run installs it"
    return found


def haproxy():
    """HAProxy, which Debian has where only root looks."""
    return shutil.which("haproxy", path="/usr/sbin:" + os.environ["PATH"]) or tool("haproxy")


def program():
    """The program under test."""
    binary = Path(os.environ.get("CLAVIGER_BIN") or Path(__file__).parents[2] / "target/release/claviger").absolute()
    assert binary.is_file(), f"{binary} does not exist; cargo build --release, or set CLAVIGER_BIN"
    return binary


def clean_environment(home, **extra):
    """An environment in which no configuration of the user's is found."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C.UTF-8", "HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": "",
            "NO_PROXY": "127.0.0.1", **extra}


def free_ports(count):
    """Ports of 127.0.0.1 that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Process:
    """A server with its output in a log file; known, and stopped, by its process id."""

    def __init__(self, name, command, folder, environment):
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def log_tail(self):
        return self.log.read_text(errors="replace")[-6000:]

    def wait_until(self, ready, what):
        """Calls `ready` until it gives something true, the process has died or the time is over."""
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            found = ready()
            if found:
                return found
            if self.child.poll() is not None:
                raise AssertionError(f"{self.name} exited with {self.child.returncode} before {what}:\n{self.log_tail()}")
            time.sleep(0.1)
        self.kill()
        raise AssertionError(f"{self.name}: no {what} within {READY_S} s:\n{self.log_tail()}")

    def kill(self):
        if self.child.poll() is None:
            os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def terminate(self):
        """SIGTERM; the process has to drain and exit with 0 in time."""
        assert self.child.poll() is None, f"{self.name} died with {self.child.returncode} during the tests:\n{self.log_tail()}"
        os.kill(self.child.pid, signal.SIGTERM)
        try:
            code = self.child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {STOP_S} s of SIGTERM:\n{self.log_tail()}") from None
        assert code == 0, f"{self.name} exited with {code} after SIGTERM:\n{self.log_tail()}"


class SeaweedFS:
    """One SeaweedFS node with its S3 gateway; what it stores lies in `data`. `inside` goes before its command, to run it elsewhere."""

    access_key, secret_key = "storage", "storage-secret"

    def __init__(self, folder, inside=()):
        self.data = folder / "data"
        self.data.mkdir()
        # Without this, each bucket takes so many volumes that "no free volumes" are left.
        (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\ncopy_2 = 1\ncopy_other = 1\n")
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "storage", "credentials": credentials, "actions": actions}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        master, volume, filer, s3, master_rpc, volume_rpc, filer_rpc, s3_rpc = free_ports(8)
        self.url = f"http://127.0.0.1:{s3}"
        command = [
            *inside, tool("weed"), "-logtostderr=true", "server", "-master.telemetry=false", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=data",
            f"-master.port={master}", f"-master.port.grpc={master_rpc}", "-master.volumeSizeLimitMB=256",
            f"-volume.port={volume}", f"-volume.port.grpc={volume_rpc}", "-volume.max=10000", "-volume.preStopSeconds=0",
            "-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_rpc}",
            "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_rpc}", "-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]
        self.process = Process("seaweedfs", command, folder, clean_environment(folder))

    def wait(self, writes):
        """`writes` tries a write: volumes are there only some time after the gateway answers."""
        self.process.wait_until(writes, "successful write")

    def stop(self):
        # It would take 15 s over a SIGTERM.
        self.process.kill()


class OpenBao:
    """A real OpenBao server in development mode, with the KEK of the demo and a token that may use it and nothing else."""

    def __init__(self, folder):
        self.folder = folder
        self.port, = free_ports(1)
        self.url = f"https://127.0.0.1:{self.port}"
        self.environment = clean_environment(folder, VAULT_ADDR=self.url, VAULT_CACERT=str(folder / "vault-ca.pem"), VAULT_TOKEN="root")
        command = [tool("bao"), "server", "-dev", "-dev-tls", f"-dev-tls-cert-dir={folder}", f"-dev-listen-address=127.0.0.1:{self.port}",
                   "-dev-root-token-id=root", "-dev-no-store-token"]
        self.process = Process("openbao", command, folder, clean_environment(folder))
        self.process.wait_until(lambda: self._run("status").returncode == 0, "unsealed server")
        self.must("secrets", "enable", "transit")
        self.must("write", "transit/keys/demo", "derived=true")
        rules = "".join(f'path "transit/{verb}/demo" {{ capabilities = ["update"] }}\n' for verb in ("datakey/plaintext", "decrypt", "rewrap"))
        (folder / "policy.hcl").write_text(rules)
        self.must("policy", "write", "demo", str(folder / "policy.hcl"))
        self.token_file = folder / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.must("token", "create", "-policy=demo", "-period=1h", "-orphan", "-field=token"))

    def _run(self, *arguments):
        return subprocess.run([tool("bao"), *arguments], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, check=False)

    def must(self, *arguments):
        done = self._run(*arguments)
        assert done.returncode == 0, f"bao {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def demo_arguments(self):
        return ["--custodian-url", self.url, "--custodian-ca-file", self.folder / "vault-ca.pem", "--custodian-token-file", self.token_file]

    def stop(self):
        self.process.kill()


class Demo:
    """`claviger demo`; `exports` is what its env.sh sets."""

    def __init__(self, folder, storage=None, custodian=None):
        self.binary = program()
        self.dir = folder / "demo"
        command = [self.binary, "demo", "--dir", self.dir, "--listen", "127.0.0.1:0"]
        if storage:
            url, access_key, secret_key = storage
            secret_file = folder / "storage-secret"
            secret_file.touch(mode=0o600)
            secret_file.write_text(secret_key)
            command += ["--storage-url", url, "--storage-access-key", access_key, "--storage-secret-key-file", secret_file]
        if custodian:
            command += custodian.demo_arguments()
        self.home = folder
        self.process = Process("claviger", command, folder, clean_environment(folder))
        self.exports = self.process.wait_until(self._sourced, f"env.sh that exports {', '.join(EXPORTS)}")

    def _sourced(self):
        if not (self.dir / "env.sh").exists():
            return None
        shell = ["bash", "-c", '. "$0" && env -0', self.dir / "env.sh"]
        output = subprocess.run(shell, env=clean_environment(self.home), capture_output=True, text=True, check=False).stdout
        found = dict(line.partition("=")[::2] for line in output.split("\0"))
        if not all(found.get(name) for name in EXPORTS):
            return None
        return {name: found[name] for name in EXPORTS + EXPORTS_OF_CUSTODY if name in found}

    def stop(self):
        self.process.terminate()
