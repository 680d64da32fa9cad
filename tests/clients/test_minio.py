"""minio-py."""

import io
from datetime import timedelta

import pytest
import urllib3
from minio import Minio
from minio.commonconfig import REPLACE, ComposeSource, CopySource
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

import files
from files import LARGE, PART


@pytest.fixture
def minio(target):
    secure, host = target.url.split("://")
    pool = urllib3.PoolManager(ca_certs=target.ca, timeout=60, retries=False)
    return Minio(endpoint=host, access_key=target.access_key, secret_key=target.secret_key, region=target.region, secure=secure == "https",
                 http_client=pool)


def _read(minio, bucket, key, **extra):
    answer = minio.get_object(bucket_name=bucket, object_name=key, **extra)
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


def test_large_files_and_streams(target, minio, prefix, tmp_path):
    assert minio.bucket_exists(bucket_name=target.bucket)
    wanted = files.write(target, tmp_path / "up", LARGE)
    minio.fput_object(bucket_name=target.bucket, object_name=f"{prefix}file", file_path=str(tmp_path / "up"), part_size=PART,
                      content_type="application/x-claviger-test", metadata={"color": "blue"})
    minio.fget_object(bucket_name=target.bucket, object_name=f"{prefix}file", file_path=str(tmp_path / "down"))
    assert files.file_sha256(tmp_path / "down") == wanted
    stat = minio.stat_object(bucket_name=target.bucket, object_name=f"{prefix}file")
    assert (stat.size, stat.content_type) == (LARGE, "application/x-claviger-test")
    assert stat.metadata["x-amz-meta-color"] == "blue"
    data = files.content(target, LARGE)
    minio.put_object(bucket_name=target.bucket, object_name=f"{prefix}stream", data=io.BytesIO(data), length=-1, part_size=PART)
    assert files.sha256(_read(minio, target.bucket, f"{prefix}stream")) == files.sha256(data)
    assert _read(minio, target.bucket, f"{prefix}stream", offset=PART - 50, length=100) == data[PART - 50:PART + 50]


def test_copy_and_compose(target, minio, prefix):
    first, second = files.content(target, PART + 1000), files.content(target, 3000)
    for name, data in (("first", first), ("second", second)):
        minio.put_object(bucket_name=target.bucket, object_name=prefix + name, data=io.BytesIO(data), length=len(data), metadata={"color": "blue"})
    source = {"bucket_name": target.bucket, "object_name": f"{prefix}first"}
    minio.copy_object(bucket_name=target.bucket, object_name=f"{prefix}copy", source=CopySource(**source))
    minio.copy_object(bucket_name=target.bucket, object_name=f"{prefix}other", source=CopySource(**source), metadata_directive=REPLACE,
                      metadata={"color": "red"})
    assert minio.stat_object(bucket_name=target.bucket, object_name=f"{prefix}copy").metadata["x-amz-meta-color"] == "blue"
    assert minio.stat_object(bucket_name=target.bucket, object_name=f"{prefix}other").metadata["x-amz-meta-color"] == "red"
    pieces = [ComposeSource(**source), ComposeSource(**source, offset=10, length=PART),
              ComposeSource(bucket_name=target.bucket, object_name=f"{prefix}second")]
    minio.compose_object(bucket_name=target.bucket, object_name=f"{prefix}composed", sources=pieces)
    assert files.sha256(_read(minio, target.bucket, f"{prefix}composed")) == files.sha256(first + first[10:10 + PART] + second)


def test_listing_presigning_and_removal(target, minio, prefix):
    keys = files.put_many(target, prefix, 30)
    assert [entry.object_name for entry in minio.list_objects(bucket_name=target.bucket, prefix=prefix, recursive=True)] == keys
    assert [entry.object_name for entry in minio.list_objects(bucket_name=target.bucket, prefix=prefix)] == [f"{prefix}page/"]
    url = minio.presigned_get_object(bucket_name=target.bucket, object_name=keys[7], expires=timedelta(minutes=5))
    pool = urllib3.PoolManager(ca_certs=target.ca)
    assert pool.request("GET", url).data == keys[7].encode()
    put = minio.presigned_put_object(bucket_name=target.bucket, object_name=keys[7], expires=timedelta(minutes=5))
    assert pool.request("PUT", put, body=b"by URL").status == 200
    assert _read(minio, target.bucket, keys[7]) == b"by URL"
    errors = minio.remove_objects(bucket_name=target.bucket, delete_object_list=[DeleteObject(key) for key in keys[1:]])
    assert list(errors) == []
    minio.remove_object(bucket_name=target.bucket, object_name=keys[0])
    with pytest.raises(S3Error, match="NoSuchKey"):
        minio.stat_object(bucket_name=target.bucket, object_name=keys[0])
    assert files.listed(target, prefix) == {}
