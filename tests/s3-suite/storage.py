"""The storage servers that the suite runs against: each is started on free ports of 127.0.0.1, with three identities."""

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import boto3
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from common import Identity, Problem, Process, clean_environment, free_ports, must, tool

TARGET = Path(os.environ.get("S3_SUITE_TARGET", "target")).absolute()
REGION = "us-east-1"
GARAGE = "2.5.0"
CEPH_PACKAGES = ["radosgw", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph-common"]
# SSE-KMS names these: the storage server's keys in a direct run, the proxy's KEKs in one through it.
KMS_KEYS = ("testkey-1", "testkey-2")


def identities():
    """`main` and `alt` are the suite's; `claviger` is the proxy's own."""
    return {name: Identity(name, f"{name}-key", secrets.token_hex(16)) for name in ("main", "alt", "claviger")}


def accepts_writes(url, identity):
    """Whether a bucket can be made and written to: gateways answer before what is behind them is ready."""
    client = boto3.client("s3", endpoint_url=url, aws_access_key_id=identity.access_key, region_name=REGION,
                          aws_secret_access_key=identity.secret_key, config=Config(retries={"max_attempts": 0}, read_timeout=10))
    try:
        try:
            client.create_bucket(Bucket="warm-up")
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                return False
        client.put_object(Bucket="warm-up", Key="key", Body=b"warm")
        return True
    except (ClientError, BotoCoreError):
        return False


def answers(url):
    """Whether anything is answered at all."""
    try:
        requests.get(url, timeout=10)
        return True
    except requests.RequestException:
        return False


class Server:
    """A storage server of one or more processes, which are gone when it could not be started or is stopped."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.environment = clean_environment(folder)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def process(self, name, *command):
        started = Process(name, command, self.folder, self.environment)
        self.processes.append(started)
        return started

    def attempt(self, *command):
        """Runs a command that may fail."""
        return subprocess.run(command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, check=False)

    def must(self, *command):
        return must(command, env=self.environment)

    def stop(self):
        """Kills: what is stored is thrown away, and some take 15 s over a SIGTERM."""
        for process in reversed(self.processes):
            process.kill()


class SeaweedFS(Server):
    """One node of everything with its S3 gateway."""

    title = "SeaweedFS"
    lifecycle_day_s = 10

    def start(self):
        self.identities, folder = identities(), self.folder
        (folder / "data").mkdir()
        # Without this, each bucket takes so many volumes that "no free volumes" are left.
        (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\ncopy_2 = 1\ncopy_other = 1\n")
        (folder / "s3.json").write_text(json.dumps(self._access()))
        ports = dict(zip(("master", "volume", "filer", "s3", "master_rpc", "volume_rpc", "filer_rpc", "s3_rpc"), free_ports(8)))
        self.url = f"http://127.0.0.1:{ports['s3']}"
        self.version = self.must(tool("weed"), "version").split()[2]
        process = self.process(
            "seaweedfs", tool("weed"), "-logtostderr=true", "server", "-master.telemetry=false", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-dir=data",
            f"-master.port={ports['master']}", f"-master.port.grpc={ports['master_rpc']}", "-master.volumeSizeLimitMB=256",
            f"-volume.port={ports['volume']}", f"-volume.port.grpc={ports['volume_rpc']}", "-volume.max=10000",
            "-volume.preStopSeconds=0", "-filer", f"-filer.port={ports['filer']}", f"-filer.port.grpc={ports['filer_rpc']}",
            "-s3", f"-s3.port={ports['s3']}", f"-s3.port.grpc={ports['s3_rpc']}", "-s3.config=s3.json",
            "-s3.allowDeleteBucketNotEmpty=false", "-s3.port.iceberg=0", "-s3.port.lance=0")
        process.wait_until(lambda: accepts_writes(self.url, self.identities["main"]), "successful write")

    def _access(self):
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        people = self.identities.values()
        accounts = [{"id": one.name, "displayName": one.name, "emailAddress": one.email} for one in people]
        kms = {"default_provider": "local", "providers": {"local": {"type": "local", "enableOnDemandCreate": True}}}
        return {"accounts": accounts, "kms": kms, "identities": [
            {"name": one.name, "account": account, "actions": actions,
             "credentials": [{"accessKey": one.access_key, "secretKey": one.secret_key}]}
            for one, account in zip(people, accounts)]}


class Garage(Server):
    """One node, one zone. Its access keys have a form of their own."""

    title = "Garage"
    lifecycle_day_s = 10

    def start(self):
        self.identities = {name: Identity(name, f"GK{secrets.token_hex(12)}", secrets.token_hex(32)) for name in identities()}
        self.command = (self.installed(), "-c", self.folder / "garage.toml")
        self.environment["RUST_LOG"] = "garage=warn"
        self._configure()
        self.version = re.search(r"\d+\.\d+\.\d+", self.must(self.command[0], "--version"))[0]
        process = self.process("garage", *self.command, "server")
        process.wait_until(lambda: self.attempt(*self.command, "status").returncode == 0, "answer to garage status")
        node = self._do("node", "id", "-q").split("@")[0].strip()
        self._do("layout", "assign", "-z", "dc1", "-c", "10G", node)
        self._do("layout", "apply", "--version", "1")
        for one in self.identities.values():
            self._do("key", "import", "--yes", one.access_key, one.secret_key, "-n", one.name)
            self._do("key", "allow", "--create-bucket", one.access_key)
        process.wait_until(lambda: accepts_writes(self.url, self.identities["main"]), "successful write")

    def _do(self, *arguments):
        return self.must(*self.command, *arguments)

    def _configure(self):
        s3, rpc = free_ports(2)
        self.url = f"http://127.0.0.1:{s3}"
        config = self.folder / "garage.toml"
        config.touch(mode=0o600)
        config.write_text(
            f'metadata_dir = "{self.folder}/meta"\ndata_dir = "{self.folder}/data"\ndb_engine = "sqlite"\nreplication_factor = 1\n'
            f'rpc_bind_addr = "127.0.0.1:{rpc}"\nrpc_public_addr = "127.0.0.1:{rpc}"\nrpc_secret = "{secrets.token_hex(32)}"\n'
            f'[s3_api]\napi_bind_addr = "127.0.0.1:{s3}"\ns3_region = "{REGION}"\nroot_domain = ".s3.garage"\n')

    @staticmethod
    def installed():
        """The program; built with cargo (some minutes) if it is not there."""
        found = os.environ.get("GARAGE") or shutil.which("garage")
        root = TARGET / "garage"
        if found or (root / "bin/garage").exists():
            return found or root / "bin/garage"
        print("building Garage, which takes some minutes", flush=True)
        command = ["cargo", "install", "garage", "--version", GARAGE, "--locked", "--debug", "--no-default-features",
                   "--features", "sqlite,bundled-libs,metrics", "--root", root]
        # Quick to build, but with the arithmetic of a release: some of its sums overflow, and then others would panic.
        profile = {"CARGO_PROFILE_DEV_OVERFLOW_CHECKS": "false", "CARGO_PROFILE_DEV_DEBUG_ASSERTIONS": "false"}
        environment = {**os.environ, **profile, "CARGO_TARGET_DIR": str(root / "build")}
        if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise Problem("Garage does not build; build it by hand and set GARAGE to the program")
        shutil.rmtree(root / "build")
        return root / "bin/garage"


class Ceph(Server):
    """A RADOS gateway on one monitor, manager and disk, all in the foreground; runs as root."""

    title = "Ceph RGW"
    lifecycle_day_s = 10

    def start(self):
        self.installed()
        self.identities = identities()
        self.environment["CEPH_CONF"] = str(self.folder / "ceph.conf")
        self.version = re.search(r"version (\d+\.\d+\.\d+)", self.must("radosgw", "--version"))[1]
        for name in ("mon", "mgr", "osd", "rgw", "run", "crash"):
            (self.folder / name).mkdir()
        mon_v2, mon_v1, s3 = free_ports(3)
        self.url = f"http://127.0.0.1:{s3}"
        fsid = _uuid()
        self._configure(fsid, mon_v2, mon_v1, s3)
        self._start_cluster(fsid, f"[v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]")
        # -f: in the foreground, so that the process id is the one that was started.
        gateway = self.process("radosgw", "radosgw", "-f", "-n", "client.rgw.a")
        gateway.wait_until(lambda: answers(self.url), "answer")
        for one in self.identities.values():
            self.must("radosgw-admin", "user", "create", f"--uid={one.name}", f"--display-name={one.name}", f"--email={one.email}",
                      f"--access-key={one.access_key}", f"--secret={one.secret_key}", "--max-buckets=0")
        gateway.wait_until(lambda: accepts_writes(self.url, self.identities["main"]), "successful write")

    @staticmethod
    def installed():
        """Installs Debian's packages if they are not there."""
        if shutil.which("radosgw") and shutil.which("ceph-osd"):
            return
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise Problem(f"Ceph is missing (Debian: apt-get install --no-install-recommends {' '.join(CEPH_PACKAGES)})")
        print("installing Ceph with apt-get", flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *CEPH_PACKAGES]):
            must(["apt-get", "-qq", *command], env=quiet, timeout=900)

    def _configure(self, fsid, mon_v2, mon_v1, s3):
        """One copy of everything, and what the suite's own users set: a short day, keys for SSE-KMS, SSE-C over HTTP."""
        keys = " ".join(f"{name}={base64.b64encode(secrets.token_bytes(32)).decode()}" for name in KMS_KEYS)
        folder = self.folder
        (folder / "ceph.conf").write_text(f"""[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
crash dir = {folder}/crash
log to file = false
log to stderr = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail crit = 1
osd objectstore = bluestore
bluestore block create = true
bluestore block size = 21474836480
bluestore cache size = 268435456
osd memory target = 1073741824
mgr initial modules =
[mon]
mon data = {folder}/mon
mon cluster log file = {folder}/cluster.log
[mgr]
mgr data = {folder}/mgr
[osd]
osd data = {folder}/osd
osd class update on start = false
[client]
ms mon client mode = crc
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{s3} tcp_nodelay=1
rgw thread pool size = 64
rgw enable usage log = false
rgw lc debug interval = {self.lifecycle_day_s}
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {keys}
""")

    def _start_cluster(self, fsid, monitor):
        self.must("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, self.folder / "monmap")
        self.must("ceph-mon", "--mkfs", "-i", "a", "--monmap", self.folder / "monmap")
        mon = self.process("ceph-mon", "ceph-mon", "-f", "-i", "a")
        mon.wait_until(lambda: self.attempt("ceph", "-s", "--connect-timeout", "2").returncode == 0, "answer to ceph -s")
        self.process("ceph-mgr", "ceph-mgr", "-f", "-i", "x")
        uuid = _uuid()
        self.must("ceph", "osd", "new", uuid)
        self.must("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)
        osd = self.process("ceph-osd", "ceph-osd", "-f", "-i", "0")
        osd.wait_until(lambda: "1 up" in self.attempt("ceph", "osd", "stat").stdout, "disk that is up")


def _uuid():
    return Path("/proc/sys/kernel/random/uuid").read_text(encoding="ascii").strip()


SERVERS = {"seaweedfs": SeaweedFS, "garage": Garage, "ceph": Ceph}
