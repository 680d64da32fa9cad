"""Certificates that end under load: renewed in time nobody notices, and not renewed nothing works that should not, until they are."""

import re
import time

import pytest
from botocore.exceptions import ClientError, SSLError

import load
from deployment import Deployment
from short_lived import Authority

pytestmark = pytest.mark.waits

LIFE_S = 12


@pytest.fixture
def deployment(weed, tmp_path):
    made = Deployment(tmp_path, (weed.url, weed.access_key, weed.secret_key), read_lease_s=2, write_renew_s=3)
    made.edit("proxy.toml", r"(?m)^watch = true$", "watch = true\nwatch_grace_s = 60")
    made.edit("proxy.toml", r'state_bucket = ".*"', 'state_bucket = "certificates-state"')
    certs = made.dir / "certs"
    made.servers, made.clients = Authority(certs, "ca"), Authority(certs, "clients-ca")
    made.bucket = f"certificates-{time.time_ns()}"
    try:
        made.start_custodian()
        made.must("key", "create", "records")
        made.start_proxy()
        made.client(made.proxy_port).create_bucket(Bucket=made.bucket)
        yield made
    finally:
        made.kill()


def impatient(deployment):
    return load.impatient(f"https://localhost:{deployment.proxy_port}", deployment.credentials(), deployment.dir / "certs/ca.crt")


def renewed(deployment, seconds):
    deployment.servers.renew(deployment.dir / "certs/proxy", seconds)
    deployment.clients.renew(deployment.dir / "certs/proxy-client", seconds)


def waits_for(deployment, pattern, begun=0):
    deployment.proxy.wait_until(lambda: re.search(pattern, deployment.proxy.log.read_text(errors="replace")[begun:]), f"line like {pattern!r}")


def test_what_is_renewed_in_time_is_not_noticed(deployment):
    ends = time.monotonic() + 1.25 * LIFE_S
    stays = load.Application(deployment.bucket, "stays", lambda: impatient(deployment))
    comes = load.Application(deployment.bucket, "comes", lambda: impatient(deployment), anew=True)
    with load.Load(stays, comes) as applications:
        while time.monotonic() < ends:
            renewed(deployment, LIFE_S)
            time.sleep(LIFE_S / 4)
        renewed(deployment, 3600)
        applications.is_well_within(10)
    assert not applications.errors, applications.errors[:3]
    log = deployment.proxy.log.read_text(errors="replace")
    # Each file is looked at each second: none that was used at first is any more.
    for taken in ("the certificates for the custodian have changed", "the changed configuration is in force"):
        assert log.count(taken) >= 3, taken
    applications.all_there(deployment.client(deployment.proxy_port))


def test_an_ended_certificate_for_the_custodian_fails_closed_and_says_so(deployment):
    s3, certs = impatient(deployment), deployment.dir / "certs"
    s3.put_object(Bucket=deployment.bucket, Key="before", Body=b"x")
    deployment.clients.renew(certs / "proxy-client", 3)
    ended = time.monotonic() + 3
    waits_for(deployment, "the certificates for the custodian have changed")
    # What is leased goes on until the lease ends, a second or two after the certificate.
    seen = set()
    while time.monotonic() < ended + 6:
        try:
            s3.get_object(Bucket=deployment.bucket, Key="before")["Body"].read()
            assert time.monotonic() < ended + 4, "served beyond certificate and lease"
        except ClientError as error:
            seen.add((error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]))
            assert "retry-after" in error.response["ResponseMetadata"]["HTTPHeaders"]
        time.sleep(0.1)
    assert seen == {(503, "ServiceUnavailable")}, "to come again, and not that the application may not"
    with pytest.raises(ClientError, match="503|ServiceUnavailable"):
        s3.put_object(Bucket=deployment.bucket, Key="after", Body=b"x")
    waits_for(deployment, r"our own certificate for the custodian ended at")
    waits_for(deployment, r'the certificate has ended.*role="custodian-client"|role="custodian-client".*the certificate has ended')
    deployment.clients.renew(certs / "proxy-client", 3600)
    application = load.Application(deployment.bucket, "after", lambda: s3)
    with load.Load(application) as applications:
        applications.is_well_within(15)


def test_an_ended_certificate_of_the_listener_is_for_new_connections_alone(deployment):
    certs = deployment.dir / "certs"
    deployment.servers.renew(certs / "proxy", 6)
    waits_for(deployment, "the changed configuration is in force")
    ended = time.monotonic() + 6
    kept = load.Application(deployment.bucket, "kept", lambda: impatient(deployment))
    with load.Load(kept) as applications:
        while time.monotonic() < ended + 1:
            time.sleep(0.2)
        with pytest.raises(SSLError, match="expired"):
            impatient(deployment).list_buckets()
        waits_for(deployment, r'the certificate has ended')
        deployment.servers.renew(certs / "proxy", 3600)
        end = time.monotonic() + 10
        while True:
            try:
                impatient(deployment).list_buckets()
                break
            except SSLError:
                assert time.monotonic() < end, "the new certificate is not shown"
                time.sleep(0.2)
    assert not applications.errors, "the connection from before goes on"
