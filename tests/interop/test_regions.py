"""A proxy in Singapore that may only write: what it stored it cannot read back, and the US reads all of it."""

import re
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

import target as targets
from deployment import Deployment
from servers import Process, clean_environment, free_ports

POLICY = Path(__file__).parents[2] / "examples/policies/singapore-write-only.cedar"
BODY = b"written in Singapore: " + targets.marker().encode()
PART = 5 << 20


class Regions(Deployment):
    """The policy of a new deployment with the example's rules for Singapore, and a second proxy there."""

    singapore = None

    def must(self, *arguments, **more):
        if arguments[:2] == ("custodian", "init"):
            rules = re.split(r"(?m)^(?=@id)", POLICY.read_text())
            rules = [rule for rule in rules if rule.startswith('@id("singapore-')]
            assert len(rules) == 3, rules
            policy = self.dir / "policy.cedar"
            policy.write_text(policy.read_text() + "\n" + "\n".join(rules))
            self.second_proxy()
        return super().must(*arguments, **more)

    def second_proxy(self):
        self.singapore_port, = free_ports(1)
        certs = self.dir / "certs"
        super().must("certificate", "spiffe://claviger.internal/region/sg/proxy/singapore", "--ca-file", certs / "clients-ca.crt",
                     "--ca-key-file", certs / "clients-ca.key", "--out", certs / "singapore-client")
        # Both would open what the other wrote: it is the policy that decides.
        self.edit("proxy.toml", r'(?m)^kek = "records"$', 'kek = "records"\naccept_writers = ["proxy/us", "proxy/sg"]')
        text = (self.dir / "proxy.toml").read_text()
        for pattern, other in ((rf"127.0.0.1:{self.proxy_port}", f"127.0.0.1:{self.singapore_port}"), (r'(?m)^region = "us"', 'region = "sg"'),
                               (r"certs/proxy-client\.(crt|key)", r"certs/singapore-client.\1"), ('folder = "access-log"', 'folder = "access-log-sg"')):
            text, count = re.subn(pattern, other, text)
            assert count >= 1, pattern
        (self.dir / "singapore.toml").write_text(text)

    def start_singapore(self):
        self.singapore = Process("singapore", [self.binary, "proxy", "--config", self.dir / "singapore.toml"], self.home,
                                 clean_environment(self.home, CLAVIGER_LOG="info"))
        self.singapore.wait_until(lambda: "the proxy serves" in self.singapore.log_tail(), "line that says it serves")
        return self.client(self.singapore_port)

    def kill(self):
        if self.singapore is not None:
            self.singapore.kill()
        super().kill()


@pytest.fixture(scope="module")
def regions(weed, tmp_path_factory):
    made = Regions(tmp_path_factory.mktemp("regions"), (weed.url, weed.access_key, weed.secret_key))
    for name in ("proxy.toml", "singapore.toml"):
        made.edit(name, r'state_bucket = ".*"', 'state_bucket = "regions-state"')
    try:
        made.start_custodian()
        made.must("key", "create", "records")
        made.us = made.start_proxy()
        made.sg = made.start_singapore()
        made.us.create_bucket(Bucket="regions")
        yield made
    finally:
        made.kill()


def denied(call, **arguments):
    """Refused, as S3 refuses what is not allowed, and not as something that a client would repeat."""
    with pytest.raises(ClientError) as error:
        call(Bucket="regions", **arguments)
    answer = error.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403, answer
    # A HEAD has no document that could say more.
    assert answer["Error"]["Code"] in ("AccessDenied", "403"), answer


def upload(s3, key, bodies):
    begun = s3.create_multipart_upload(Bucket="regions", Key=key, Metadata={"owner": "sg"})["UploadId"]
    parts = []
    for number, body in enumerate(bodies, 1):
        done = s3.upload_part(Bucket="regions", Key=key, UploadId=begun, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": done["ETag"]})
    s3.complete_multipart_upload(Bucket="regions", Key=key, UploadId=begun, MultipartUpload={"Parts": parts})


def nothing_comes_back(s3, key):
    denied(s3.get_object, Key=key)
    denied(s3.get_object, Key=key, Range="bytes=2-5")
    denied(s3.get_object, Key=key, PartNumber=1)
    denied(s3.head_object, Key=key)
    denied(s3.get_object_attributes, Key=key, ObjectAttributes=["ObjectSize", "Checksum", "ETag"])
    source = {"Bucket": "regions", "Key": key}
    denied(s3.copy_object, Key="copied", CopySource=source)
    denied(s3.copy_object, Key=key, CopySource=source, MetadataDirective="REPLACE", Metadata={"owner": "nobody"})
    begun = s3.create_multipart_upload(Bucket="regions", Key="copied")["UploadId"]
    denied(s3.upload_part_copy, Key="copied", UploadId=begun, PartNumber=1, CopySource=source)
    s3.abort_multipart_upload(Bucket="regions", Key="copied", UploadId=begun)


def test_what_singapore_writes_the_us_reads_and_singapore_does_not(regions):
    sg, us = regions.sg, regions.us
    bodies = [BODY.ljust(PART, b"."), BODY]
    sg.put_object(Bucket="regions", Key="small", Body=BODY, Metadata={"owner": "sg"})
    upload(sg, "large", bodies)
    us.put_object(Bucket="regions", Key="american", Body=BODY)
    for restarted in (False, True):
        if restarted:
            regions.singapore.terminate()
            sg = regions.start_singapore()
        for key in ("small", "large", "american"):
            nothing_comes_back(sg, key)
        # Once more right after a write, while the key that it was written under is in memory.
        sg.put_object(Bucket="regions", Key="small", Body=BODY, Metadata={"owner": "sg"})
        denied(sg.get_object, Key="small")
    for key, body in (("small", BODY), ("large", b"".join(bodies)), ("american", BODY)):
        # The US has read it, which is of no use to Singapore.
        assert us.get_object(Bucket="regions", Key=key)["Body"].read() == body
        denied(sg.get_object, Key=key)
    assert us.head_object(Bucket="regions", Key="large")["Metadata"] == {"owner": "sg"}
    assert us.get_object(Bucket="regions", Key="large", Range=f"bytes={PART}-")["Body"].read() == BODY
    listed = {entry["Key"]: entry["Size"] for entry in sg.list_objects_v2(Bucket="regions")["Contents"]}
    assert listed == {"small": len(BODY), "large": PART + len(BODY), "american": len(BODY)}, "and no copy was made"
    sg.delete_object(Bucket="regions", Key="small")


def test_an_upload_is_gone_on_with_after_a_restart_by_its_own_region_alone(regions):
    sg, us = regions.sg, regions.us
    begun = sg.create_multipart_upload(Bucket="regions", Key="resumed")["UploadId"]
    upload_id = {"Bucket": "regions", "Key": "resumed", "UploadId": begun}
    first = sg.upload_part(**upload_id, PartNumber=1, Body=BODY.ljust(PART, b"."))["ETag"]
    with pytest.raises(ClientError):
        us.upload_part(**upload_id, PartNumber=2, Body=b"American")
    regions.singapore.terminate()
    sg = regions.start_singapore()
    second = sg.upload_part(**upload_id, PartNumber=2, Body=BODY)["ETag"]
    assert [part["Size"] for part in sg.list_parts(**upload_id)["Parts"]] == [PART, len(BODY)]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in ((1, first), (2, second))]
    sg.complete_multipart_upload(**upload_id, MultipartUpload={"Parts": parts})
    denied(sg.get_object, Key="resumed")
    assert us.get_object(Bucket="regions", Key="resumed")["Body"].read() == BODY.ljust(PART, b".") + BODY


def test_the_audit_log_names_who_was_refused(regions):
    shown = regions.must("audit", "show", "--log", f"https://localhost:{regions.custodian_port}", "--key", regions.dir / "custodian/audit.vkey",
                         "--decision", "deny", "--principal", "proxy/singapore", who="auditor")
    assert "unwrap" in shown and "region/sg/proxy/singapore" in shown, shown
