"""Conditions, checksums and refusals: each wrong request gets the right S3 error and leaves nothing behind."""

import base64
import hashlib
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree
import zlib

import pytest
from botocore.exceptions import ClientError

from scan import places_of
from target import error_code


def _fails(code, call, **arguments):
    with pytest.raises(ClientError) as failure:
        call(**arguments)
    assert error_code(failure.value) == code
    return failure.value.response


def _code(answer):
    return ElementTree.fromstring(answer.data).findtext("Code")


def _is_absent(target, key):
    _fails("404", target.s3.head_object, Bucket=target.bucket, Key=key)
    _fails("NoSuchKey", target.s3.get_object, Bucket=target.bucket, Key=key)


def _path(target, key, query=""):
    return f"/{target.bucket}/{urllib.parse.quote(key)}{query}"


def test_an_etag_round_trips_and_is_never_taken_for_an_md5(target, prefix):
    where = {"Bucket": target.bucket, "Key": f"{prefix}object"}
    body = target.body(1000)
    etag = target.s3.put_object(**where, Body=body)["ETag"]
    assert not re.fullmatch('"[0-9a-fA-F]{32}"', etag)
    assert target.s3.head_object(**where)["ETag"] == etag
    assert target.s3.get_object(**where, IfMatch=etag)["ETag"] == etag
    (listed,) = target.s3.list_objects_v2(Bucket=target.bucket, Prefix=prefix)["Contents"]
    assert listed["ETag"] == etag
    assert target.s3.get_object(**where, IfMatch=etag, Range="bytes=10-19")["Body"].read() == body[10:20]


def test_conditions_on_reads_hold(target, prefix):
    where = {"Bucket": target.bucket, "Key": f"{prefix}object"}
    etag = target.s3.put_object(**where, Body=target.body(1000))["ETag"]
    _fails("PreconditionFailed", target.s3.get_object, **where, IfMatch='"0123456789abcdef0123456789abcdef"')
    _fails("412", target.s3.head_object, **where, IfMatch='"0123456789abcdef0123456789abcdef"')
    for call in (target.s3.get_object, target.s3.head_object):
        _fails("304", call, **where, IfNoneMatch=etag)
        assert call(**where, IfNoneMatch='"something-else"')["ContentLength"] == 1000


def test_if_none_match_protects_an_object_from_being_replaced(target, prefix):
    def protected(client, bucket):
        where = {"Bucket": bucket, "Key": f"{prefix}object"}
        client.put_object(**where, Body=b"first", IfNoneMatch="*")
        _fails("PreconditionFailed", client.put_object, **where, Body=b"second", IfNoneMatch="*")
        assert client.get_object(**where)["Body"].read() == b"first"

    target.where_the_storage_server_can("PUT with If-None-Match: *", protected)


def test_ranges_are_those_of_the_plaintext(target, prefix):
    where, body = {"Bucket": target.bucket, "Key": f"{prefix}object"}, target.body(200_000)
    target.s3.put_object(**where, Body=body)
    for asked, first, last in [
        ("bytes=0-0", 0, 0), ("bytes=65535-65536", 65535, 65536), ("bytes=131072-", 131072, 199_999),
        ("bytes=-1", 199_999, 199_999), ("bytes=-500000", 0, 199_999), ("bytes=199999-900000", 199_999, 199_999),
    ]:
        answer = target.s3.get_object(**where, Range=asked)
        assert answer["ContentRange"] == f"bytes {first}-{last}/200000", asked
        assert answer["Body"].read() == body[first:last + 1], asked
    _fails("InvalidRange", target.s3.get_object, **where, Range="bytes=200000-")
    # Several ranges in one request: S3 ignores them.
    assert target.s3.get_object(**where, Range="bytes=0-1,5-6")["Body"].read() == body


def test_a_wrong_secret_is_refused(target):
    stranger = target.client(secret_key="not-the-secret-of-this-key-at-all-0123456")
    response = _fails("SignatureDoesNotMatch", stranger.list_objects_v2, Bucket=target.bucket)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_an_unknown_access_key_is_refused(target):
    stranger = target.client(access_key="NOBODYKNOWSTHISKEY00")
    response = _fails("InvalidAccessKeyId", stranger.list_objects_v2, Bucket=target.bucket)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_unsigned_request_is_refused(target, prefix, method):
    key = f"{prefix}object"
    target.s3.put_object(Bucket=target.bucket, Key=key, Body=b"still here")
    answer = target.raw(method, _path(target, key), body=b"replaced" if method == "PUT" else b"", sign=False)
    assert (answer.status, _code(answer)) == (403, "AccessDenied")
    assert target.s3.get_object(Bucket=target.bucket, Key=key)["Body"].read() == b"still here"


def test_an_altered_presigned_url_is_refused(target, prefix):
    url = target.s3.generate_presigned_url("get_object", Params={"Bucket": target.bucket, "Key": f"{prefix}one"})
    altered = url.replace(f"{prefix}one", f"{prefix}two").removeprefix(target.url)
    answer = target.raw("GET", altered, sign=False)
    assert (answer.status, _code(answer)) == (403, "SignatureDoesNotMatch")


def _md5(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def _crc32(data):
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("header, wrong", [("content-md5", _md5(b"other")), ("x-amz-checksum-crc32", _crc32(b"other"))])
def test_a_wrong_checksum_commits_nothing(target, prefix, header, wrong, size):
    key = f"{prefix}object"
    answer = target.raw("PUT", _path(target, key), target.body(size), {header: wrong})
    assert (answer.status, _code(answer)) == (400, "BadDigest")
    _is_absent(target, key)


def test_a_wrong_checksum_leaves_the_object_that_was_there(target, prefix):
    key = f"{prefix}object"
    target.s3.put_object(Bucket=target.bucket, Key=key, Body=b"first")
    assert target.raw("PUT", _path(target, key), b"second", {"content-md5": _md5(b"other")}).status == 400
    assert target.s3.get_object(Bucket=target.bucket, Key=key)["Body"].read() == b"first"


def test_a_body_other_than_the_signed_one_commits_nothing(target, prefix):
    key = f"{prefix}object"
    answer = target.raw("PUT", _path(target, key), b"original", sent_body=b"altered!")
    assert (answer.status, _code(answer)) == (400, "XAmzContentSHA256Mismatch")
    _is_absent(target, key)


@pytest.mark.parametrize("algorithm, length", [("CRC32", 4), ("SHA1", 20), ("SHA256", 32)])
def test_checksums_of_the_plaintext_come_back(target, prefix, algorithm, length):
    where, body = {"Bucket": target.bucket, "Key": f"{prefix}object"}, target.body(100_000)
    target.s3.put_object(**where, Body=body, ChecksumAlgorithm=algorithm)
    answer = target.s3.get_object(**where, ChecksumMode="ENABLED")
    assert answer["Body"].read() == body  # botocore compares while it reads
    checksum = base64.b64decode(answer[f"Checksum{algorithm}"])
    digests = {"CRC32": zlib.crc32(body).to_bytes(4, "big"), "SHA1": hashlib.sha1(body).digest(), "SHA256": hashlib.sha256(body).digest()}
    assert (len(checksum), checksum) == (length, digests[algorithm])


def test_a_query_parameter_that_nobody_knows_stores_nothing(target, prefix):
    key, body = f"{prefix}object", target.body(5000)
    answer = target.raw("PUT", _path(target, key, "?new-thing"), body)
    assert (answer.status, _code(answer)) == (501, "NotImplemented")
    answer = target.raw("PUT", _path(target, key, "?new-thing=1&x-id=PutObject"), body)
    assert (answer.status, _code(answer)) == (501, "NotImplemented")
    _is_absent(target, key)
    _fails("404", target.direct.head_object, Bucket=target.bucket, Key=key)
    assert places_of(target.folder, target.marker) == []


def test_a_query_parameter_that_nobody_knows_reads_nothing(target, prefix):
    key = f"{prefix}object"
    target.s3.put_object(Bucket=target.bucket, Key=key, Body=b"x")
    for query in ("?new-thing", "?torrent", "?select&select-type=2"):
        answer = target.raw("GET", _path(target, key, query))
        assert (answer.status, _code(answer)) == (501, "NotImplemented"), query


def test_the_state_bucket_is_invisible(target, prefix):
    name = "claviger-state"
    target.s3.put_object(Bucket=target.bucket, Key=f"{prefix}object", Body=b"x")
    assert name in [bucket["Name"] for bucket in target.direct.list_buckets()["Buckets"]], "the proxy keeps its state elsewhere?"
    assert name not in [bucket["Name"] for bucket in target.s3.list_buckets()["Buckets"]]
    entries = target.direct.list_objects_v2(Bucket=name)["Contents"]
    _fails("NoSuchBucket", target.s3.get_object, Bucket=name, Key=entries[0]["Key"])
    _fails("NoSuchBucket", target.s3.list_objects_v2, Bucket=name)
    _fails("NoSuchBucket", target.s3.put_object, Bucket=name, Key="mine", Body=b"x")
    _fails("NoSuchBucket", target.s3.delete_object, Bucket=name, Key=entries[0]["Key"])
    _fails("404", target.s3.head_bucket, Bucket=name)
    with pytest.raises(ClientError):
        target.s3.create_bucket(Bucket=name)
