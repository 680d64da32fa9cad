"""What test_interception.py runs in a network namespace of its own: a proxy beside its application, as in a pod.

This namespace has the storage server, behind TLS, and the custodian. The pod has an address of its own, which a neighbour tries. The
argument is a folder for files.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import boto3
import botocore.config

import namespace
import servers
from deployment import Deployment
from guide import GUIDE

BODY = b"for the pod alone"
HERE, POD = "192.0.2.1", "192.0.2.2"
NAMES = {"custodian.example.org": HERE, "storage.example.org": HERE}


class Beside(Deployment):
    """A deployment whose proxy is in the pod, with the configuration of the guide."""

    def __init__(self, folder, pod, weed):
        self.pod = pod
        super().__init__(folder, ("https://storage.example.org", weed.access_key, weed.secret_key))
        self.edit("proxy.toml", r"(?m)^listen = .*$", "\n".join(settings()))
        self.edit("proxy.toml", r"(?m)^(certificate|key)_file = \"certs/proxy\.(crt|key)\"\n(certificate|key)_file = .*\n", "")
        self.edit("proxy.toml", r'# ca_file = "certs/storage-ca.crt".*', 'ca_file = "certs/ca.crt"')
        self.edit("proxy.toml", r"https://localhost:", "https://custodian.example.org:")
        self.edit("custodian.toml", rf"127\.0\.0\.1:{self.custodian_port}", f"0.0.0.0:{self.custodian_port}")

    def must(self, *arguments, **more):
        if arguments[0] == "init":
            arguments += ("--custodian-host", "custodian.example.org")
        return super().must(*arguments, **more)

    def edit(self, name, pattern, replacement):
        # As `init` writes it for that host.
        if pattern == "localhost:8200":
            pattern = "custodian.example.org:8200"
        super().edit(name, pattern, replacement)

    def start_proxy(self):
        command = [*self.pod.inside, self.binary, "proxy", "--config", self.dir / "proxy.toml"]
        self.proxy = servers.Process("proxy", command, self.home, servers.clean_environment(self.home, CLAVIGER_LOG="info"))
        self.proxy.wait_until(lambda: "the proxy serves" in self.proxy.log_tail(), "line that says it serves")


def settings():
    """The lines for `[proxy]` that the guide gives to a sidecar."""
    chapter = re.search(r"(?ms)^## Ways in for applications$(.*?)^## ", GUIDE.read_text())[1]
    block = re.search(r"(?ms)^```toml\n\[proxy\].*?\n(.*?)^```$", chapter)[1]
    lines = [line.partition("#")[0].strip() for line in block.splitlines()]
    assert [line.partition(" ")[0] for line in lines] == ["listen", "plain_http_on_loopback"], lines
    return lines


def application():
    """Knows of an endpoint on its own host, and has no trust store."""
    s3 = boto3.client("s3", config=botocore.config.Config(s3={"addressing_style": "path"}))
    s3.create_bucket(Bucket="pods")
    s3.put_object(Bucket="pods", Key="a key", Body=BODY)
    got = s3.get_object(Bucket="pods", Key="a key")
    assert got["Body"].read() == BODY and got["ResponseMetadata"]["HTTPHeaders"]["server"] == "Claviger"
    print("the application reached", s3.meta.endpoint_url, flush=True)


def connects(address, port):
    """Whether a connection from here is taken."""
    ask = f"import socket; socket.create_connection(('{address}', {port}), 5)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 or "Connection refused" in done.stderr, done.stderr
    return done.returncode == 0


def main(folder):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    pod = namespace.Host(folder, "pod")
    pod.knows(NAMES)
    namespace.join((None, "to-pod", f"{HERE}/24"), (pod, "eth0", f"{POD}/24"))
    weed, deployment, front = namespace.storage(folder), None, None
    try:
        deployment = Beside(folder, pod, weed)
        # On this namespace's loopback.
        front = namespace.behind_tls(deployment, weed, folder, "storage.example.org", HERE)
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        deployment.start_proxy()
        port = int(settings()[0].split(":")[-1].strip('"'))
        access_key, secret_key = deployment.credentials()
        environment = servers.clean_environment(
            folder, AWS_ACCESS_KEY_ID=access_key, AWS_SECRET_ACCESS_KEY=secret_key, AWS_DEFAULT_REGION="us-east-1",
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
        pod.must(sys.executable, __file__, "application", env=environment)
        assert connects(HERE, 443) and not connects(POD, port), "others do not reach what listens on the pod's loopback"
        stored = b"".join(path.read_bytes() for path in (folder / "weed/data").rglob("*") if path.is_file())
        assert BODY not in stored and b"pods" in stored
    finally:
        if deployment is not None:
            deployment.kill()
        if front is not None:
            front.kill()
        pod.stop()
        weed.stop()
    print("only the pod reached its proxy")


if __name__ == "__main__":
    if sys.argv[1] == "application":
        application()
    else:
        main(Path(os.path.abspath(sys.argv[1])))
