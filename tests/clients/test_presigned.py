"""Presigned URLs: aws-cli makes them and curl uses them; parts of an upload as browsers send them."""

import re

import pytest

import files
from files import LARGE, PART
from programs import Aws, Aws2, Curl


@pytest.mark.parametrize("version", [Aws, Aws2])
def test_aws_presign_and_curl_download_and_continue(target, version, prefix, tmp_path):
    aws, curl = version(target, tmp_path), Curl(target, tmp_path)
    # Left to itself, the first version still presigns with signature v2 in us-east-1.
    aws.aws("configure", "set", "default.s3.signature_version", "s3v4")
    wanted = files.put(target, f"{prefix}large", LARGE)
    data = target.s3.get_object(Bucket=target.bucket, Key=f"{prefix}large")["Body"].read()
    url = aws.aws("s3", "presign", f"s3://{target.bucket}/{prefix}large", "--expires-in", 300).strip()
    assert "X-Amz-Signature=" in url
    assert files.sha256(curl.curl(url)) == wanted
    assert curl.curl("--range", f"{PART - 10}-{PART + 9}", url) == data[PART - 10:PART + 10]
    (tmp_path / "down").write_bytes(data[:PART])
    curl.curl("--continue-at", "-", "--output", "down", url)
    assert files.file_sha256(tmp_path / "down") == wanted
    refused = curl.run("curl", "--silent", *(["--cacert", target.ca] if target.ca else []), url[:-4] + "0000").decode()
    assert "SignatureDoesNotMatch" in refused


def test_parts_go_up_by_presigned_urls(target, prefix, tmp_path):
    curl, where = Curl(target, tmp_path), {"Bucket": target.bucket, "Key": f"{prefix}by browser"}
    data = files.content(target, LARGE)
    upload = target.s3.create_multipart_upload(**where, ContentType="application/x-claviger-test")["UploadId"]
    parts = []
    for number, start in enumerate(range(0, LARGE, PART), 1):
        (tmp_path / "part").write_bytes(data[start:start + PART])
        url = target.s3.generate_presigned_url("upload_part", Params={**where, "UploadId": upload, "PartNumber": number}, ExpiresIn=300)
        said = curl.curl("--include", "--upload-file", "part", url).decode()
        parts.append({"PartNumber": number, "ETag": re.search(r"(?im)^etag: (.*?)\s*$", said)[1]})
    target.s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert files.stored(target, prefix) == {"by browser": files.sha256(data)}
    assert target.s3.head_object(**where)["ContentType"] == "application/x-claviger-test"
