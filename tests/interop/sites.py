"""What test_sites.py runs in network namespaces: a storage server in Virginia and a replica of its ciphertext in Singapore.

Each site is a host of its own, whose storage server is behind TLS. This namespace has the proxy, the custodian, and who copies between the
sites. All that Singapore's host sends, gets or passes between its processes is recorded. The argument is a folder for files.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from botocore.exceptions import ClientError

import endpoints
import namespace
import scan
import servers
import target as targets
from deployment import Deployment, files_below
from load import impatient

PLANTED = b"not for Singapore: " + targets.marker().encode()
LARGE = PLANTED * 200_000
NETWORKS = {"virginia": "192.0.2", "singapore": "198.51.100"}


def synchronized(folder, source, destination, *buckets, ca=None):
    """Copies ciphertext as it lies, as an operator of both sites would."""
    remotes = "".join(
        f"[{name}]\ntype = s3\nprovider = Other\nendpoint = {server.url}\naccess_key_id = {server.access_key}\n"
        f"secret_access_key = {server.secret_key}\nregion = us-east-1\n"
        for name, server in (("virginia", source), ("singapore", destination)))
    (folder / "rclone.conf").write_text(remotes)
    trust = ["--ca-cert", ca] if ca else []
    for bucket in buckets:
        command = [servers.tool("rclone"), "--config", folder / "rclone.conf", *trust, "sync", "--metadata", f"virginia:{bucket}",
                   f"singapore:{bucket}"]
        subprocess.run(command, env=servers.clean_environment(folder), check=True, capture_output=True, timeout=120)


class Site:
    """A host with a storage server."""

    def __init__(self, folder, name):
        self.folder = folder / name
        self.folder.mkdir()
        self.host, network = namespace.Host(folder, name), NETWORKS[name]
        self.address, self.server_name = f"{network}.2", f"s3.{name}.example.org"
        self.url = f"https://{self.server_name}"
        namespace.join((None, f"to-{name}"[:15], f"{network}.1/24"), (self.host, "eth0", f"{self.address}/24"))
        self.weed = servers.SeaweedFS(self.folder, self.host.in_network)
        self.access_key, self.secret_key, self.front = self.weed.access_key, self.weed.secret_key, None

    def behind_tls(self, deployment):
        """HAProxy before the storage server, with a certificate of the deployment's CA; waits until writes are taken."""
        self.front = namespace.behind_tls(deployment, self.weed, self.folder, self.server_name, self.address, self.host.inside)
        ca = str(deployment.dir / "certs/ca.crt")
        endpoints.takes_writes(self.weed, targets.s3_client(self.url, self.access_key, self.secret_key, ca=ca))

    def cut_off(self):
        """Whatever comes to the host is lost."""
        rules = "add table ip cut\nadd chain ip cut in { type filter hook input priority 0; }\nadd rule ip cut in iifname eth0 drop\n"
        self.host.must("nft", "-f", "-", input=rules, text=True)

    def heal(self):
        self.host.must("nft", "delete", "table", "ip", "cut")

    def stand_still(self):
        """Connections are taken, and nothing comes of them."""
        os.kill(self.weed.process.child.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.weed.process.child.pid, signal.SIGCONT)

    def stop(self):
        for process in (self.front, self.weed.process):
            if process is not None:
                process.kill()
        self.host.stop()


def unavailable(call):
    try:
        call()
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503), error.response
    else:
        raise AssertionError("it was done")


def reads_go_on(deployment, folder, virginia, singapore):
    s3 = impatient(f"https://localhost:{deployment.proxy_port}", deployment.credentials(), deployment.dir / "certs/ca.crt")
    s3.create_bucket(Bucket="records")
    s3.put_object(Bucket="records", Key="small", Body=PLANTED, Metadata={"owner": PLANTED.decode()})
    s3.put_object(Bucket="records", Key="large", Body=LARGE)
    synchronized(folder, virginia, singapore, "records", "claviger-state", ca=deployment.dir / "certs/ca.crt")
    s3.put_object(Bucket="records", Key="later", Body=PLANTED)
    for away, back in ((virginia.cut_off, virginia.heal), (virginia.stand_still, virginia.go_on)):
        away()
        from_singapore_alone(s3)
        back()
        is_found_again(s3)


def from_singapore_alone(s3):
    assert s3.get_object(Bucket="records", Key="small")["Body"].read() == PLANTED
    begun = time.monotonic()
    got = s3.get_object(Bucket="records", Key="small")
    assert got["Body"].read() == PLANTED and got["Metadata"]["owner"] == PLANTED.decode()
    assert s3.get_object(Bucket="records", Key="large")["Body"].read() == LARGE
    assert s3.get_object(Bucket="records", Key="large", Range="bytes=70000-70009")["Body"].read() == LARGE[70000:70010]
    assert s3.head_object(Bucket="records", Key="large")["ContentLength"] == len(LARGE)
    assert time.monotonic() - begun < 10, "once it is known, nobody waits for Virginia"
    # What was not copied yet is not said to be absent; nothing is written anywhere; no list is shown that may be short.
    unavailable(lambda: s3.get_object(Bucket="records", Key="later"))
    unavailable(lambda: s3.list_objects_v2(Bucket="records"))
    unavailable(lambda: s3.put_object(Bucket="records", Key="new", Body=b"x"))


def is_found_again(s3):
    back = time.monotonic()
    while True:
        try:
            assert s3.get_object(Bucket="records", Key="later")["Body"].read() == PLANTED
            s3.put_object(Bucket="records", Key="new", Body=b"x")
            break
        except ClientError:
            assert time.monotonic() - back < 60, "Virginia is not found again"
            time.sleep(0.5)


def recorder(singapore):
    """Records all frames of Singapore's host into a file of a folder of its own."""
    frames = singapore.folder / "frames"
    frames.mkdir()
    program = Path(__file__).resolve().parents[1] / "drill/capture.py"
    command = [*singapore.host.inside, sys.executable, program, frames / "all"]
    process = servers.Process("capture", command, singapore.folder, servers.clean_environment(singapore.folder))
    process.wait_until(lambda: "recording" in process.log_tail(), "recording")
    return process, frames


def no_plaintext(singapore, recording, frames):
    """Neither in what travelled nor in what lies there; and the search would have found it."""
    planted = PLANTED.decode()
    seen = targets.marker()
    control = targets.s3_client(singapore.url, singapore.access_key, singapore.secret_key, ca=singapore.ca)
    control.put_object(Bucket="records", Key="control", Body=seen.encode())
    recording.terminate()
    assert recording.log_tail().strip().endswith("dropped=0"), recording.log_tail()
    stored = [path.read_bytes() for path in files_below(singapore.weed.data)]
    assert sum(map(len, stored)) > len(LARGE) and not any(PLANTED in content for content in stored)
    assert frames.joinpath("all").stat().st_size > len(LARGE), "the copy travelled by here"
    for what, folder in (("what travelled to Singapore", frames), ("what lies there", singapore.weed.data)):
        assert not scan.places_of(folder, planted), what
        assert scan.places_of(folder, seen), f"the search finds nothing in {what}"
    print("no plaintext travelled to Singapore or lies there", flush=True)


def main(folder):
    namespace.lead(folder, [], {f"s3.{name}.example.org": f"{network}.2" for name, network in NETWORKS.items()})
    sites, deployment, recording = [], None, None
    try:
        sites += [Site(folder, name) for name in NETWORKS]
        virginia, singapore = sites
        recording, frames = recorder(singapore)
        deployment = Deployment(folder, (virginia.url, virginia.access_key, virginia.secret_key))
        singapore.ca = str(deployment.dir / "certs/ca.crt")
        for site in sites:
            site.behind_tls(deployment)
        (deployment.dir / "secrets/singapore.key").write_text(singapore.secret_key)
        (deployment.dir / "secrets/singapore.key").chmod(0o600)
        deployment.edit("proxy.toml", r'# ca_file = "certs/storage-ca.crt".*', 'ca_file = "certs/ca.crt"')
        deployment.edit("proxy.toml", r"copy_limit_bytes = .*\n", "answer_timeout_s = 2\n[storage.replica]\n"
                        f'url = "{singapore.url}"\naccess_key = "{singapore.access_key}"\nsecret_key_file = "secrets/singapore.key"\n'
                        'ca_file = "certs/ca.crt"\n')
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        deployment.start_proxy()
        reads_go_on(deployment, folder, virginia, singapore)
        print("reads went on from Singapore while Virginia was cut off or silent", flush=True)
        no_plaintext(singapore, recording, frames)
    finally:
        if deployment is not None:
            deployment.kill()
        if recording is not None:
            recording.kill()
        for site in sites:
            site.stop()


if __name__ == "__main__":
    main(Path(os.path.abspath(sys.argv[1])))
