"""Verifying, exporting and collecting, as an operator runs them, before a real storage server."""

import hashlib
import json
import os
import subprocess

import pytest

import target as targets
from deployment import Deployment
from servers import clean_environment

pytestmark = pytest.mark.waits

PART = 5 << 20
BODIES = {
    "plain": b"for us alone",
    "empty": b"",
    "folder/a key with spaces": os.urandom(70_000),
    "folder/ü/%41/+": os.urandom(64 << 10),
    "in-parts": os.urandom(PART + 12_345),
}


def upload(s3, key, body):
    begun = s3.create_multipart_upload(Bucket="jobs", Key=key)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(body), PART), 1):
        part = s3.upload_part(Bucket="jobs", Key=key, UploadId=begun, PartNumber=number, Body=body[start:start + PART])
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(Bucket="jobs", Key=key, UploadId=begun, MultipartUpload={"Parts": parts})


@pytest.fixture
def deployment(weed, tmp_path):
    made = Deployment(tmp_path, (weed.url, weed.access_key, weed.secret_key))
    made.edit("proxy.toml", r'state_bucket = ".*"', 'state_bucket = "jobs-state"')
    try:
        made.start_custodian()
        made.must("key", "create", "records")
        made.s3 = made.start_proxy()
        yield made
    finally:
        made.kill()


def report(deployment, *arguments):
    """What a job says, and its exit code."""
    done = deployment.run(*arguments, "--json", "--config", deployment.dir / "proxy.toml")
    return json.loads(done.stdout), done.returncode


def test_what_is_stored_is_verified_exported_and_collected(deployment, weed, tmp_path):
    s3 = deployment.s3
    s3.create_bucket(Bucket="jobs")
    for key, body in BODIES.items():
        upload(s3, key, body) if key == "in-parts" else s3.put_object(Bucket="jobs", Key=key, Body=body, Metadata={"owner": "accounting"})
    unfinished = s3.create_multipart_upload(Bucket="jobs", Key="unfinished")["UploadId"]
    s3.upload_part(Bucket="jobs", Key="unfinished", UploadId=unfinished, PartNumber=1, Body=b"x")

    found, code = report(deployment, "verify", "jobs")
    assert (code, found["done"], found["failed"], found["complete"]) == (0, len(BODIES), 0, True), found
    assert found["bytes"] == sum(map(len, BODIES.values())), found

    out = tmp_path / "out"
    found, code = report(deployment, "export", "jobs", "--to", out)
    assert (code, found["done"], found["failed"]) == (0, len(BODIES), 0), found
    lines = [json.loads(line) for line in (out / ".claviger-metadata.jsonl").read_text().splitlines()]
    exported = {line["key"]: line for line in lines}
    assert set(exported) == set(BODIES)
    for key, body in BODIES.items():
        path = out / exported[key]["path"]
        assert path.read_bytes() == body and exported[key]["sha256"] == hashlib.sha256(body).hexdigest(), key
        assert path.stat().st_mode & 0o077 == 0, "for its owner alone"
    again, code = report(deployment, "export", "jobs", "--to", out)
    assert (code, again["done"], again["skipped"]) == (0, 0, len(BODIES)), again

    # What the storage server's operator may do behind everybody's back.
    direct = targets.s3_client(weed.url, weed.access_key, weed.secret_key)
    stored = direct.get_object(Bucket="jobs", Key="plain")
    altered = bytearray(stored["Body"].read())
    altered[3] ^= 1
    direct.put_object(Bucket="jobs", Key="plain", Body=bytes(altered), Metadata=stored["Metadata"], ContentType=stored["ContentType"])
    direct.put_object(Bucket="jobs", Key="planted", Body=b"never encrypted")
    found, code = report(deployment, "verify", "jobs", "--restart")
    assert (code, found["failed"], {finding["key"] for finding in found["findings"]}) == (1, 2, {"plain", "planted"}), found
    damaged = tmp_path / "damaged"
    found, code = report(deployment, "export", "jobs", "--to", damaged)
    assert (code, {finding["key"] for finding in found["findings"]}) == (1, {"plain", "planted"}), found
    assert not [path for path in damaged.rglob("*") if path.is_file() and b"never encrypted" in path.read_bytes()]

    # An upload that goes on is left alone.
    collected, code = report(deployment, "gc", "--older-than", "1h")
    assert code == 0, collected
    s3.upload_part(Bucket="jobs", Key="unfinished", UploadId=unfinished, PartNumber=2, Body=b"y")
    assert len(s3.list_parts(Bucket="jobs", Key="unfinished", UploadId=unfinished)["Parts"]) == 2

    # A full disk ends an export with an error that says so, and it goes on when there is room.
    full = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c",
         f"mkdir -p {tmp_path}/small && mount -t tmpfs -o size=200k tmpfs {tmp_path}/small && "
         f"{deployment.binary} export jobs --to {tmp_path}/small/out --config {deployment.dir}/proxy.toml"],
        env=clean_environment(tmp_path), capture_output=True, text=True, timeout=120, check=False)
    assert full.returncode not in (0, 101) and "space" in full.stderr, full
