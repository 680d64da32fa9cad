"""boto3 and s3transfer."""

import io

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from s3transfer.manager import TransferManager

import files
from files import LARGE, MIB, PART

pytestmark = pytest.mark.embedded

PARTS = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
HEADERS = {"ContentType": "application/x-claviger-test", "Metadata": {"color": "deep blue"}, "CacheControl": "max-age=60"}


class Forward(io.RawIOBase):
    """A stream that cannot seek."""

    def __init__(self, data):
        super().__init__()
        self.rest = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.rest.readinto(buffer)


def _read(target, key, **extra):
    return target.s3.get_object(Bucket=target.bucket, Key=key, **extra)["Body"].read()


def test_a_large_file_goes_up_and_down_in_parts(target, prefix, tmp_path):
    key, wanted = f"{prefix}large", files.write(target, tmp_path / "up", LARGE)
    target.s3.upload_file(str(tmp_path / "up"), target.bucket, key, ExtraArgs=HEADERS, Config=PARTS)
    target.s3.download_file(target.bucket, key, str(tmp_path / "down"), Config=PARTS)
    assert files.file_sha256(tmp_path / "down") == wanted
    head = target.s3.head_object(Bucket=target.bucket, Key=key)
    assert head["ContentLength"] == LARGE
    assert {name: head[name] for name in HEADERS} == HEADERS
    assert target.s3.head_object(Bucket=target.bucket, Key=key, PartNumber=1)["PartsCount"] == 3
    assert files.sha256(_read(target, key, PartNumber=2)) == files.sha256((tmp_path / "up").read_bytes()[PART:2 * PART])
    assert files.no_uploads_left(target, prefix)


def test_streams_go_up_and_down(target, prefix):
    key, data = f"{prefix}stream", files.content(target, LARGE)
    target.s3.upload_fileobj(Forward(data), target.bucket, key, Config=PARTS)
    back = io.BytesIO()
    target.s3.download_fileobj(target.bucket, key, back, Config=PARTS)
    assert files.sha256(back.getvalue()) == files.sha256(data)


def test_s3transfer_moves_many_files_at_once(target, prefix, tmp_path):
    wanted = files.tree(target, tmp_path / "up")
    with TransferManager(target.s3) as manager:
        for future in [manager.upload(str(tmp_path / "up" / name), target.bucket, prefix + name) for name in wanted]:
            future.result()
    with TransferManager(target.s3) as manager:
        for name in wanted:
            (tmp_path / "down" / name).parent.mkdir(parents=True, exist_ok=True)
        for future in [manager.download(target.bucket, prefix + name, str(tmp_path / "down" / name)) for name in wanted]:
            future.result()
    assert files.hashes(tmp_path / "down") == wanted
    with TransferManager(target.s3) as manager:
        for future in [manager.delete(target.bucket, prefix + name) for name in wanted]:
            future.result()
    assert files.listed(target, prefix) == {}


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_of_uploads_in_parts(target, prefix, algorithm):
    data = files.content(target, 6 * MIB)
    key = f"{prefix}{algorithm}"
    target.s3.upload_fileobj(io.BytesIO(data), target.bucket, key, ExtraArgs={"ChecksumAlgorithm": algorithm}, Config=PARTS)
    head = target.s3.head_object(Bucket=target.bucket, Key=key, ChecksumMode="ENABLED")
    assert head.get(f"Checksum{algorithm}"), head
    assert files.sha256(_read(target, key, ChecksumMode="ENABLED")) == files.sha256(data)


def test_ranges_of_an_object_in_parts(target, prefix):
    key, data = f"{prefix}large", files.content(target, LARGE)
    etag = target.s3.upload_fileobj(io.BytesIO(data), target.bucket, key, Config=PARTS)
    etag = target.s3.head_object(Bucket=target.bucket, Key=key)["ETag"]
    for start, end in [(0, 0), (PART - 1, PART), (PART - 70_000, PART + 70_000), (LARGE - 1, LARGE - 1), (1234, 2 * PART + 99)]:
        answer = target.s3.get_object(Bucket=target.bucket, Key=key, Range=f"bytes={start}-{end}", IfMatch=etag)
        assert answer["ContentRange"] == f"bytes {start}-{end}/{LARGE}"
        assert answer["Body"].read() == data[start:end + 1]
    assert _read(target, key, Range="bytes=-100") == data[-100:]
    assert _read(target, key, Range=f"bytes={2 * PART}-") == data[2 * PART:]
    with pytest.raises(ClientError, match="InvalidRange"):
        _read(target, key, Range=f"bytes={LARGE}-")


def test_an_upload_is_resumed_by_another_client(target, prefix):
    where = {"Bucket": target.bucket, "Key": f"{prefix}resumed"}
    data = files.content(target, LARGE)
    pieces = [data[:PART], data[PART:2 * PART], data[2 * PART:]]
    upload = target.s3.create_multipart_upload(**where, **HEADERS)["UploadId"]
    target.s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=pieces[0])
    target.s3.upload_part(**where, UploadId=upload, PartNumber=3, Body=pieces[2])
    other = target.client()
    (found,) = other.list_multipart_uploads(Bucket=target.bucket, Prefix=prefix)["Uploads"]
    assert (found["Key"], found["UploadId"]) == (where["Key"], upload)
    there = {part["PartNumber"]: part for part in other.list_parts(**where, UploadId=upload)["Parts"]}
    assert {number: part["Size"] for number, part in there.items()} == {1: PART, 3: len(pieces[2])}
    etags = {number: part["ETag"] for number, part in there.items()}
    etags[2] = other.upload_part(**where, UploadId=upload, PartNumber=2, Body=pieces[1])["ETag"]
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
    etag = other.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})["ETag"]
    answer = target.s3.get_object(**where)
    assert files.sha256(answer["Body"].read()) == files.sha256(data)
    assert answer["ETag"] == etag
    assert answer["Metadata"] == HEADERS["Metadata"]
    assert files.no_uploads_left(target, prefix)


def test_a_failed_upload_leaves_nothing(target, prefix):
    class Broken(Forward):
        def readinto(self, buffer):
            if self.rest.tell() > 2 * PART:
                raise OSError("the disk is gone")
            return super().readinto(buffer)

    with pytest.raises(OSError, match="the disk is gone"):
        target.s3.upload_fileobj(Broken(files.content(target, LARGE)), target.bucket, f"{prefix}broken", Config=PARTS)
    assert files.no_uploads_left(target, prefix)
    assert files.listed(target, prefix) == {}


@pytest.mark.parametrize("size", [100, LARGE])
def test_copies_on_the_server(target, prefix, size):
    data, s3, bucket = files.content(target, size), target.s3, target.bucket
    s3.upload_fileobj(io.BytesIO(data), bucket, f"{prefix}first", ExtraArgs=HEADERS, Config=PARTS)
    # In one request, in parts, and onto itself with other metadata.
    s3.copy_object(Bucket=bucket, Key=f"{prefix}whole", CopySource={"Bucket": bucket, "Key": f"{prefix}first"})
    s3.copy({"Bucket": bucket, "Key": f"{prefix}first"}, bucket, f"{prefix}in parts", Config=PARTS)
    s3.copy_object(Bucket=bucket, Key=f"{prefix}first", CopySource={"Bucket": bucket, "Key": f"{prefix}first"},
                   MetadataDirective="REPLACE", ContentType="text/plain", Metadata={"color": "red"})
    assert files.stored(target, prefix) == dict.fromkeys(["first", "whole", "in parts"], files.sha256(data))
    assert s3.head_object(Bucket=bucket, Key=f"{prefix}whole")["Metadata"] == HEADERS["Metadata"]
    replaced = s3.head_object(Bucket=bucket, Key=f"{prefix}first")
    assert (replaced["ContentType"], replaced["Metadata"]) == ("text/plain", {"color": "red"})


def test_listings_of_many_keys_in_pages(target, prefix):
    keys = files.put_many(target, prefix, 130)
    target.s3.put_object(Bucket=target.bucket, Key=f"{prefix}beside", Body=b"")
    for verb in ("list_objects_v2", "list_objects"):
        pages = target.s3.get_paginator(verb).paginate(Bucket=target.bucket, Prefix=f"{prefix}page/", PaginationConfig={"PageSize": 50})
        pages = [[(entry["Key"], entry["Size"]) for entry in page["Contents"]] for page in pages]
        assert [len(page) for page in pages] == [50, 50, 30]
        assert sum(pages, []) == [(key, len(key)) for key in keys]
    top = target.s3.list_objects_v2(Bucket=target.bucket, Prefix=prefix, Delimiter="/")
    assert [entry["Key"] for entry in top["Contents"]] == [f"{prefix}beside"]
    assert [entry["Prefix"] for entry in top["CommonPrefixes"]] == [f"{prefix}page/"]
    after = target.s3.list_objects_v2(Bucket=target.bucket, Prefix=prefix, StartAfter=keys[127])
    assert [entry["Key"] for entry in after["Contents"]] == keys[128:]
    gone = target.s3.delete_objects(Bucket=target.bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert sorted(entry["Key"] for entry in gone["Deleted"]) == keys
    assert list(files.listed(target, prefix)) == ["beside"]


def test_small_replaces_large_and_large_small(target, prefix):
    for size in (LARGE, 10, LARGE, 0):
        data = files.content(target, size)
        target.s3.upload_fileobj(io.BytesIO(data), target.bucket, f"{prefix}object", Config=PARTS)
        assert files.stored(target, prefix) == {"object": files.sha256(data)}
        assert files.listed(target, prefix)["object"][0] == size
