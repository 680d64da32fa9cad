"""What test_interception.py runs in a network namespace of its own: the deployment, and applications that know of no endpoint.

Its argument is a folder for files. As root of the namespace it decides where names lead to.
"""

import os
import subprocess
import sys
from pathlib import Path

import boto3
import botocore.config

import namespace
import servers
from deployment import Deployment

DOMAINS = ("s3.us-east-1.amazonaws.com", "s3.amazonaws.com")
BUCKETS = ("interop-records", "interop.with.dots")
BODY = b"for us alone"


class Intercepting(Deployment):
    """With the public names, certificates for all below them, and the usual port."""

    def must(self, *arguments, **more):
        if arguments[0] == "init":
            arguments += ("--issue-certificates", *(word for domain in DOMAINS for word in ("--host", domain)))
        return super().must(*arguments, **more)


def application():
    """An application of the public service: credentials, a region and a trust store, from the environment."""
    for style in ("virtual", "path"):
        for regional in ("legacy", "regional"):
            config = botocore.config.Config(s3={"addressing_style": style, "us_east_1_regional_endpoint": regional})
            s3 = boto3.client("s3", config=config)
            for bucket in BUCKETS:
                if style == "virtual" and "." in bucket:
                    # The SDK itself does not do that.
                    continue
                if not any(there["Name"] == bucket for there in s3.list_buckets()["Buckets"]):
                    s3.create_bucket(Bucket=bucket)
                s3.put_object(Bucket=bucket, Key="a key", Body=BODY)
                got = s3.get_object(Bucket=bucket, Key="a key")
                assert got["Body"].read() == BODY and got["ResponseMetadata"]["HTTPHeaders"]["server"] == "Claviger"
                print("reached", s3.meta.endpoint_url, style, bucket)


def environment(folder, deployment):
    """What that application has in its environment."""
    access_key, secret_key = deployment.credentials()
    return servers.clean_environment(folder, AWS_ACCESS_KEY_ID=access_key, AWS_SECRET_ACCESS_KEY=secret_key, AWS_DEFAULT_REGION="us-east-1",
                                     AWS_CA_BUNDLE=str(deployment.dir / "certs/ca.crt"))


def ask(environment, host, *more):
    curl = ["curl", "--silent", "--show-error", "--cacert", environment["AWS_CA_BUNDLE"], "--output", "/dev/null"]
    return subprocess.run([*curl, "--write-out", "%{http_code}", *more, f"https://{host}/"], env=environment, capture_output=True,
                          text=True, timeout=30, check=False)


def main(folder):
    hosts = [name for domain in DOMAINS for name in (domain, *(f"{bucket}.{domain}" for bucket in BUCKETS))]
    namespace.lead(folder, hosts)
    weed, deployment = namespace.storage(folder), None
    try:
        deployment = Intercepting(folder, (weed.url, weed.access_key, weed.secret_key))
        deployment.edit("proxy.toml", rf'listen = "127.0.0.1:{deployment.proxy_port}"', 'listen = "127.0.0.1:443"')
        deployment.proxy_port = 443
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        deployment.start_proxy()
        application_has = environment(folder, deployment)
        subprocess.run([sys.executable, __file__, "application"], env=application_has, check=True, timeout=120)
        for host in hosts:
            # For names with further dots a certificate is made when they are asked for.
            answer = ask(application_has, host)
            assert answer.stdout == "403", (host, answer)
        elsewhere = ask(application_has, "www.example.com", "--resolve", "www.example.com:443:127.0.0.1")
        assert elsewhere.returncode == 60, f"a certificate for a name that is not ours: {elsewhere}"
        stored = b"".join(path.read_bytes() for path in (folder / "weed/data").rglob("*") if path.is_file())
        assert BODY not in stored and BUCKETS[0].encode() in stored
    finally:
        if deployment is not None:
            deployment.kill()
        weed.stop()
    print("all names reached the proxy")


if __name__ == "__main__":
    if sys.argv[1] == "application":
        application()
    else:
        main(Path(os.path.abspath(sys.argv[1])))
