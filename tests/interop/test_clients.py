"""Unmodified clients write, read, range-read, list and delete; what one wrote, another reads."""

import json
import subprocess
import sys

import pytest
from botocore.exceptions import ClientError

from clients import AwsCli, Boto3, Curl, Rclone, S3cmd
from servers import clean_environment
from target import error_code

SIZES = [0, 1, 65535, 65536, 65537, (1 << 20) + 3, 7 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_an_object_goes_through_its_life(target, client, prefix, size):
    bucket, key, body = target.bucket, f"{prefix}object", target.body(size)
    client.put(bucket, key, body)
    assert client.get(bucket, key) == body
    if size:
        start, length = size // 3, max(1, size // 2)
        assert client.range(bucket, key, start, length) == body[start:start + length]
    assert client.sizes(bucket, prefix) == {key: size}
    client.delete(bucket, key)
    with pytest.raises(ClientError) as gone:
        target.s3.head_object(Bucket=bucket, Key=key)
    assert error_code(gone.value) == "404"


def test_what_a_client_wrote_is_read_by_boto3_and_back(target, client, prefix):
    body = target.body(200_000)
    client.put(target.bucket, f"{prefix}theirs", body)
    assert target.s3.get_object(Bucket=target.bucket, Key=f"{prefix}theirs")["Body"].read() == body
    target.s3.put_object(Bucket=target.bucket, Key=f"{prefix}ours", Body=body)
    assert client.get(target.bucket, f"{prefix}ours") == body


def test_an_object_is_replaced(target, client, prefix):
    key = f"{prefix}object"
    client.put(target.bucket, key, target.body(70_000))
    second = target.body(300)
    client.put(target.bucket, key, second)
    assert client.get(target.bucket, key) == second
    assert client.sizes(target.bucket, prefix) == {key: 300}


def _check_head(head):
    assert head["ContentLength"] == 1000
    assert head["ContentType"] == "application/x-claviger-test"
    assert head["Metadata"]["color"] == "deep blue"


HEADERS = {"ContentType": "application/x-claviger-test", "Metadata": {"color": "deep blue"}}


def test_head_gives_metadata_and_content_type_to_boto3(target, prefix):
    key = f"{prefix}object"
    extra = {"CacheControl": "max-age=60", "ContentDisposition": 'attachment; filename="a b.txt"', "ContentLanguage": "la",
             "ContentEncoding": "identity"}
    target.s3.put_object(Bucket=target.bucket, Key=key, Body=target.body(1000), **HEADERS, **extra)
    for answer in (target.s3.head_object(Bucket=target.bucket, Key=key), target.s3.get_object(Bucket=target.bucket, Key=key)):
        _check_head(answer)
        assert answer["Metadata"] == HEADERS["Metadata"]
        assert {name: answer.get(name) for name in extra} == extra


def test_head_gives_metadata_and_content_type_to_aws_cli(target, prefix, tmp_path):
    client, key = AwsCli(target, tmp_path), f"{prefix}object"
    client.run("aws", "s3", "cp", client.file(target.body(1000)), f"s3://{target.bucket}/{key}",
               "--metadata", "color=deep blue", "--content-type", HEADERS["ContentType"])
    _check_head(json.loads(client.run("aws", "s3api", "head-object", "--bucket", target.bucket, "--key", key)))


def test_head_gives_metadata_and_content_type_of_s3cmd(target, prefix, tmp_path):
    client, key = S3cmd(target, tmp_path), f"{prefix}object"
    client.run("s3cmd", "--no-progress", "put", client.file(target.body(1000)), f"s3://{target.bucket}/{key}",
               "--add-header=x-amz-meta-color:deep blue", f"--mime-type={HEADERS['ContentType']}")
    _check_head(target.s3.head_object(Bucket=target.bucket, Key=key))


def test_head_gives_metadata_and_content_type_to_rclone(target, prefix, tmp_path):
    client, key = Rclone(target, tmp_path), f"{prefix}object"
    client.run("rclone", "copyto", "--metadata", "--metadata-set", "color=deep blue", "--metadata-set",
               f"content-type={HEADERS['ContentType']}", client.file(target.body(1000)), f"c:{target.bucket}/{key}")
    _check_head(target.s3.head_object(Bucket=target.bucket, Key=key))
    (entry,) = json.loads(client.run("rclone", "lsjson", "--metadata", f"c:{target.bucket}/{key}"))
    assert entry["Size"] == 1000
    assert entry["MimeType"] == entry["Metadata"]["content-type"] == HEADERS["ContentType"]
    assert entry["Metadata"]["color"] == "deep blue"


def test_head_gives_metadata_and_content_type_to_curl(target, prefix, tmp_path):
    client, key = Curl(target, tmp_path), f"{prefix}object"
    signed = client.url("put_object", Bucket=target.bucket, Key=key, **HEADERS)
    client.curl("--upload-file", client.file(target.body(1000)), "--header", "x-amz-meta-color: deep blue",
                "--header", f"content-type: {HEADERS['ContentType']}", signed)
    lines = client.curl("--head", client.url("head_object", Bucket=target.bucket, Key=key)).decode().lower().splitlines()
    assert "content-length: 1000" in lines
    assert f"content-type: {HEADERS['ContentType']}" in lines
    assert "x-amz-meta-color: deep blue" in lines


def test_boto3_needs_nothing_but_the_environment(target, prefix, tmp_path):
    script = (
        "import boto3, sys; s3 = boto3.client('s3'); bucket, key = sys.argv[1:]\n"
        "s3.put_object(Bucket=bucket, Key=key, Body=b'unchanged'); print(s3.get_object(Bucket=bucket, Key=key)['Body'].read())"
    )
    environment = clean_environment(tmp_path, **Boto3(target, tmp_path).environment)
    command = [sys.executable, "-c", script, target.bucket, f"{prefix}object"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "b'unchanged'"), done.stderr


def test_curl_speaks_either_version_of_http(target, prefix, tmp_path):
    client, key, body = Curl(target, tmp_path), f"{prefix}object", target.body(100_000)
    client.put(target.bucket, key, body)
    for version in ("--http1.1", "--http2"):
        assert client.curl(version, client.url("get_object", Bucket=target.bucket, Key=key)) == body
