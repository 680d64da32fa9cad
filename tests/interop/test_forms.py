"""Browser forms as boto3 makes them, and what SDKs ask of a bucket's encryption."""

import urllib3

import pytest
from botocore.exceptions import ClientError

from scan import places_of
from target import error_code


def _post(target, form, name, body, **more):
    fields = {**form["fields"], **more, "file": (name, body, "text/plain")}
    pool = urllib3.PoolManager(ca_certs=target.ca, retries=False, timeout=60)
    return pool.request("POST", form["url"], fields=fields)


def _form(target, key, conditions=(), **fields):
    conditions = [{name: value} for name, value in fields.items()] + list(conditions)
    return target.s3.generate_presigned_post(target.bucket, key, Fields=dict(fields), Conditions=conditions, ExpiresIn=300)


@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
def test_a_presigned_form_stores_its_file_encrypted(target, prefix, size):
    body = target.body(size)
    form = _form(target, f"{prefix}${{filename}}", **{"x-amz-meta-who": "me", "success_action_status": "201"})
    answer = _post(target, form, "report.txt", body)
    assert answer.status == 201, answer.data
    stored = target.s3.get_object(Bucket=target.bucket, Key=f"{prefix}report.txt")
    assert (stored["Body"].read(), stored["Metadata"]) == (body, {"who": "me"})
    assert stored["ETag"] == answer.headers["etag"]
    assert places_of(target.folder, target.marker) == []


def test_a_presigned_form_is_held_to_its_conditions(target, prefix):
    form = _form(target, f"{prefix}object", [["content-length-range", 1, 10]])
    assert _post(target, form, "f", b"more than ten bytes").status == 400
    assert _post(target, form, "f", b"ten bytes", acl="public-read").status == 403
    assert _post(target, {**form, "fields": {**form["fields"], "key": f"{prefix}other"}}, "f", b"x").status == 403
    with pytest.raises(ClientError):
        target.s3.head_object(Bucket=target.bucket, Key=f"{prefix}object")
    assert _post(target, form, "f", b"ten bytes").status == 204


def test_the_bucket_says_that_it_is_encrypted(target):
    def rule():
        answer = target.s3.get_bucket_encryption(Bucket=target.bucket)
        return answer["ServerSideEncryptionConfiguration"]["Rules"][0]
    default = rule()["ApplyServerSideEncryptionByDefault"]
    assert default["SSEAlgorithm"] == "aws:kms" and rule()["BucketKeyEnabled"]
    for again in (default, {"SSEAlgorithm": "AES256"}):
        rules = [{"ApplyServerSideEncryptionByDefault": again}]
        target.s3.put_bucket_encryption(Bucket=target.bucket, ServerSideEncryptionConfiguration={"Rules": rules})
    target.s3.delete_bucket_encryption(Bucket=target.bucket)
    assert rule()["ApplyServerSideEncryptionByDefault"] == default
    other = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "other"}}]
    with pytest.raises(ClientError) as failure:
        target.s3.put_bucket_encryption(Bucket=target.bucket, ServerSideEncryptionConfiguration={"Rules": other})
    assert error_code(failure.value) == "KMS.NotFoundException"
