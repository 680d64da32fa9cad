"""One proxy before a storage server in Virginia and one in Singapore: each bucket on one of them, the keys' life cycle over both."""

import os
import re
import signal
import time

import pytest
from botocore.exceptions import ClientError

import endpoints
import target as targets
from deployment import Deployment
from load import impatient
from scan import places_of
from test_life_cycle import another_proxy, approved

pytestmark = pytest.mark.waits

PART = 5 << 20
# In contents and metadata of both, which no server may see; and in names, which only a bucket's own server may.
PLANTED = "for nobody abroad: " + targets.marker()
NAMES = {"records": "virginia-" + targets.marker(), "archive": "singapore-" + targets.marker()}
LARGE = (PLANTED * 300_000).encode()[:2 * PART + 17]

SITE = """
[[site]]
name = "singapore"
url = "{url}"
access_key = "{access_key}"
secret_key_file = "secrets/singapore.key"
answer_timeout_s = 2

[[bucket]]
name = "archive"
site = "singapore"
storage_name = "records"
kek = "records"
"""


class Regions(Deployment):
    """A deployment whose bucket `archive` lies in Singapore, under the name that `records` has in Virginia."""

    def __init__(self, folder, virginia, singapore):
        self.virginia, self.singapore = virginia, singapore
        super().__init__(folder, (virginia.url, virginia.access_key, virginia.secret_key))
        (self.dir / "secrets/singapore.key").write_text(singapore.secret_key)
        (self.dir / "secrets/singapore.key").chmod(0o600)
        self.edit("proxy.toml", r"copy_limit_bytes = .*\n", "answer_timeout_s = 2\n")
        site = SITE.format(url=singapore.url, access_key=singapore.access_key)
        (self.dir / "proxy.toml").write_text((self.dir / "proxy.toml").read_text() + site)
        self.edit("custodian.toml", "destroy_wait_days = 30", "insecure_retire_wait_s = 2\n")
        sites = '\n[[keys.site]]\nname = "singapore"\nbuckets = ["archive", "more"]\n'
        (self.dir / "custodian.toml").write_text((self.dir / "custodian.toml").read_text() + sites)
        self.config = ["--config", self.dir / "proxy.toml"]

    def once(self, port):
        """A client that tries nothing again."""
        return impatient(f"https://localhost:{port}", self.credentials(), self.dir / "certs/ca.crt")

    def reads(self, s3):
        for bucket, name in NAMES.items():
            got = s3.get_object(Bucket=bucket, Key=name)
            assert got["Body"].read() == PLANTED.encode() and got["Metadata"]["owner"] == PLANTED
            assert s3.get_object(Bucket=bucket, Key=name + "-large")["Body"].read() == LARGE


def direct(server):
    return targets.s3_client(server.url, server.access_key, server.secret_key)


def branches(server):
    listed = direct(server).list_objects_v2(Bucket="claviger-state", Prefix="branch/").get("Contents", [])
    return {entry["Key"].split("/")[2] for entry in listed}


def unavailable(call):
    with pytest.raises(ClientError) as error:
        call()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (500, 503), error.value.response


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    servers, deployment = [], None
    try:
        for name in ("virginia", "singapore"):
            (folder / name).mkdir()
            servers.append(endpoints.seaweedfs(folder / name))
        deployment = Regions(folder, *servers)
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        deployment.s3 = deployment.start_proxy()
        for bucket, name in NAMES.items():
            deployment.s3.create_bucket(Bucket=bucket)
            deployment.s3.put_object(Bucket=bucket, Key=name, Body=PLANTED.encode(), Metadata={"owner": PLANTED})
            upload = deployment.s3.create_multipart_upload(Bucket=bucket, Key=name + "-large")["UploadId"]
            parts = []
            for number, start in enumerate(range(0, len(LARGE), PART), 1):
                part = deployment.s3.upload_part(Bucket=bucket, Key=name + "-large", UploadId=upload, PartNumber=number,
                                                 Body=LARGE[start:start + PART])
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
            deployment.s3.complete_multipart_upload(Bucket=bucket, Key=name + "-large", UploadId=upload, MultipartUpload={"Parts": parts})
        yield deployment
    finally:
        if deployment is not None:
            deployment.kill()
        for server in servers:
            server.stop()


def test_each_bucket_lies_on_its_own_server(regions):
    s3 = regions.s3
    regions.reads(s3)
    listed = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert {"records", "archive"} <= set(listed) and len(set(listed)) == len(listed)
    for server, bucket in ((regions.virginia, "records"), (regions.singapore, "archive")):
        stored = [entry["Key"] for entry in direct(server).list_objects_v2(Bucket="records")["Contents"]]
        assert stored == [NAMES[bucket], NAMES[bucket] + "-large"]
        seen = {entry["Key"]: entry["Size"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
        assert seen == {NAMES[bucket]: len(PLANTED), NAMES[bucket] + "-large": len(LARGE)}
        s3.get_bucket_location(Bucket=bucket)
    virginia, singapore = branches(regions.virginia), branches(regions.singapore)
    assert virginia and singapore and not virginia & singapore


def test_copies_go_from_one_server_to_the_other(regions):
    s3 = regions.s3
    for source, destination in (("records", "archive"), ("archive", "records")):
        for key, body in ((NAMES[source], PLANTED.encode()), (NAMES[source] + "-large", LARGE)):
            s3.copy_object(Bucket=destination, Key="copy", CopySource={"Bucket": source, "Key": key})
            assert s3.get_object(Bucket=destination, Key="copy")["Body"].read() == body
        upload = s3.create_multipart_upload(Bucket=destination, Key="copy")["UploadId"]
        part = s3.upload_part_copy(Bucket=destination, Key="copy", UploadId=upload, PartNumber=1, CopySourceRange="bytes=100-199",
                                   CopySource={"Bucket": source, "Key": NAMES[source] + "-large"})
        parts = [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]
        s3.complete_multipart_upload(Bucket=destination, Key="copy", UploadId=upload, MultipartUpload={"Parts": parts})
        assert s3.get_object(Bucket=destination, Key="copy")["Body"].read() == LARGE[100:200]
        s3.delete_object(Bucket=destination, Key="copy")


def test_an_object_that_an_operator_moves_to_another_server_does_not_open(regions):
    stolen = direct(regions.virginia).get_object(Bucket="records", Key=NAMES["records"])
    body = stolen["Body"].read()
    direct(regions.singapore).put_object(Bucket="records", Key="planted", Body=body, Metadata=stolen["Metadata"])
    for branch in direct(regions.virginia).list_objects_v2(Bucket="claviger-state", Prefix="branch/")["Contents"]:
        entry = direct(regions.virginia).get_object(Bucket="claviger-state", Key=branch["Key"])["Body"].read()
        direct(regions.singapore).put_object(Bucket="claviger-state", Key=branch["Key"], Body=entry)
    with pytest.raises(ClientError):
        regions.s3.get_object(Bucket="archive", Key="planted")["Body"].read()
    for branch in branches(regions.virginia):
        direct(regions.singapore).delete_object(Bucket="claviger-state", Key=f"branch/records/{branch}/v1")
    direct(regions.singapore).delete_object(Bucket="records", Key="planted")


def test_jobs_find_the_server_of_their_bucket(regions):
    for bucket, name in NAMES.items():
        report = regions.json("verify", bucket, *regions.config)
        assert (report["done"], report["failed"]) == (2, 0), report
        assert regions.json("inspect", f"{bucket}/{name}", *regions.config)["storage_bucket"] == "records"
        out = regions.home / f"exported-{bucket}"
        regions.must("export", bucket, "--to", out, *regions.config)
        assert any(path.read_bytes() == LARGE for path in out.rglob("*") if path.is_file())
    assert regions.json("gc", "--older-than", "1h", *regions.config)["complete"]
    regions.must("maintain", "--once", *regions.config)


def test_a_configuration_is_taken_over_with_its_sites_or_not_at_all(regions):
    file = regions.dir / "proxy.toml"
    before = file.read_text()
    log = regions.proxy.log

    def says(what, more):
        seen = log.read_text(errors="replace").count(what)
        file.write_text(more)
        regions.proxy.wait_until(lambda: log.read_text(errors="replace").count(what) > seen, f"line with {what!r}")

    says("add a [[site]] section for it, or write one of: main", before.replace('name = "singapore"', 'name = "tokyo"'))
    regions.reads(regions.s3)
    says("the changed configuration is in force", before + '[[bucket]]\nname = "more"\nsite = "singapore"\nkek = "records"\n')
    regions.s3.create_bucket(Bucket="more")
    regions.s3.put_object(Bucket="more", Key="x", Body=b"x")
    assert "more" in [bucket["Name"] for bucket in direct(regions.singapore).list_buckets()["Buckets"]]
    regions.reads(regions.s3)


def test_one_server_is_gone_and_the_others_buckets_go_on_and_nothing_retires(regions):
    s3 = regions.once(regions.proxy_port)
    virginia, singapore = regions.virginia, regions.singapore
    for gone, lost, kept in ((virginia, "records", "archive"), (singapore, "archive", "records")):
        os.kill(gone.process.child.pid, signal.SIGSTOP)
        unavailable(lambda lost=lost: s3.get_object(Bucket=lost, Key=NAMES[lost]))
        unavailable(s3.list_buckets)
        assert s3.get_object(Bucket=kept, Key=NAMES[kept])["Body"].read() == PLANTED.encode()
        s3.put_object(Bucket=kept, Key="meanwhile", Body=LARGE[:1000])
        s3.delete_object(Bucket=kept, Key="meanwhile")
        if gone is singapore:
            regions.must("key", "rotate", "records")
            half = regions.run("key", "rewrap", "records", *regions.config)
            assert half.returncode == 1 and re.search(r"main: \d+ branch keys moved, [1-9]", half.stdout), half
            assert re.search(r"singapore: [1-9]\d* branch keys moved, 0 read back, [1-9]", half.stdout), half
            time.sleep(3)
            refused = regions.run("key", "retire", "records", "--before", "v2", *regions.config)
            assert refused.returncode == 1 and "still need a version before v2" in refused.stderr, refused
        os.kill(gone.process.child.pid, signal.SIGCONT)
        back = time.monotonic()
        while time.monotonic() - back < 60:
            try:
                s3.get_object(Bucket=lost, Key=NAMES[lost])["Body"].read()
                break
            except ClientError:
                time.sleep(0.5)
        regions.reads(s3)


def test_old_versions_retire_once_both_directories_have_their_own_keys(regions):
    census = regions.json("key", "census", "records")
    assert census["sites"] == ["main", "singapore"] and not census["retire"]["allowed"], census
    report = regions.json("key", "rewrap", "records", *regions.config)
    assert report["failed"] == 0 and report["sites"]["singapore"]["confirmed"] > 0, report
    time.sleep(3)
    approved(regions, "key", "retire", "records", "--before", "v2", *regions.config)
    census = regions.json("key", "census", "records")
    assert census["min_decryption"] == 2 and census["versions"]["2"]["branch_keys"] == census["branch_keys"], census
    # Whoever reads now finds the branch keys in the directories alone.
    fresh = another_proxy(regions)
    try:
        regions.reads(fresh.s3)
    finally:
        fresh.kill()
    assert not branches(regions.virginia) & branches(regions.singapore)
    counted = regions.json("key", "census", "records", "--objects", "records", "archive", *regions.config)
    assert counted["objects"]["listed"] == 4 and counted["objects"]["failed"] == 0, counted


def test_no_server_holds_plaintext_nor_a_name_of_the_others(regions):
    for server, own, other in ((regions.virginia, "records", "archive"), (regions.singapore, "archive", "records")):
        server.process.kill()
        assert places_of(server.data, NAMES[own]), "the search finds what is there"
        assert not places_of(server.data, PLANTED, NAMES[other])
