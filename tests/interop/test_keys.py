"""Keys that clients use and servers stumble over, listings in pages, and deleting many."""

import pytest
from botocore.exceptions import ClientError

ODD_KEYS = [
    "a//b", "ümlaut", "sp ace+plus", "%41", "trailing dot.", "日本語/キー", "q?mark&amp;=1#frag", "quote'\"<tag>", "*star(paren)!~", "folder/",
    "ends in space ", "n" * 200,
]


@pytest.mark.parametrize("odd", ODD_KEYS, ids=lambda key: key[:24].encode("unicode_escape").decode())
def test_odd_keys_are_taken_literally(target, prefix, odd):
    key, body = prefix + odd, target.body(0 if odd.endswith("/") else 3000)

    def life(client, bucket):
        expected = body if bucket == target.bucket else bytes(len(body))
        # User metadata is what the envelope needs: some servers keep none for "folders".
        client.put_object(Bucket=bucket, Key=key, Body=expected, Metadata={"kept": "yes"})
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == expected
        head = client.head_object(Bucket=bucket, Key=key)
        assert (head["ContentLength"], head["Metadata"]) == (len(body), {"kept": "yes"})
        listed = client.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
        assert [(entry["Key"], entry["Size"]) for entry in listed] == [(key, len(body))]
        client.delete_object(Bucket=bucket, Key=key)
        assert "Contents" not in client.list_objects_v2(Bucket=bucket, Prefix=key)

    if target.where_the_storage_server_can(f"the key {odd[:24]!r}", life):
        return
    # Whatever the storage server makes of the name, nobody gets other bytes than were written.
    try:
        target.s3.put_object(Bucket=target.bucket, Key=key, Body=body)
        read = target.s3.get_object(Bucket=target.bucket, Key=key)["Body"].read()
    except ClientError:
        return
    assert read == body


def _many(client, bucket, prefix, names):
    for index, name in enumerate(names):
        client.put_object(Bucket=bucket, Key=prefix + name, Body=bytes(index))
    return {prefix + name: index for index, name in enumerate(names)}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_listings_come_in_pages(target, prefix, version):
    def pages(client, bucket):
        written = _many(client, bucket, prefix, [f"key-{index:02}" for index in range(25)])
        paginator = client.get_paginator("list_objects" if version == "v1" else "list_objects_v2")
        found = [page["Contents"] for page in paginator.paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": 10})]
        assert [len(page) for page in found] == [10, 10, 5]
        listed = [entry for page in found for entry in page]
        assert [entry["Key"] for entry in listed] == sorted(written)
        assert {entry["Key"]: entry["Size"] for entry in listed} == written

    target.where_the_storage_server_can(f"listings {version} in pages", pages)


def test_a_delimiter_gives_common_prefixes(target, prefix):
    def folders(client, bucket):
        _many(client, bucket, prefix, ["one", "two", "left/one", "left/two", "right/deep/er"])
        page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/")
        assert [(entry["Key"], entry["Size"]) for entry in page["Contents"]] == [(f"{prefix}one", 0), (f"{prefix}two", 1)]
        assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == [f"{prefix}left/", f"{prefix}right/"]

    target.where_the_storage_server_can("listings with a delimiter", folders)


def test_start_after_skips(target, prefix):
    def skips(client, bucket):
        _many(client, bucket, prefix, ["a", "b", "c"])
        page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, StartAfter=f"{prefix}a")
        assert [entry["Key"] for entry in page["Contents"]] == [f"{prefix}b", f"{prefix}c"]

    target.where_the_storage_server_can("listings with StartAfter", skips)


def test_many_objects_are_deleted_at_once(target, prefix):
    def deletes(client, bucket):
        written = sorted(_many(client, bucket, prefix, ["a", "b & c", "d/e", "stays"]))
        gone = [key for key in written if not key.endswith("stays")]
        answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in gone]})
        assert sorted(entry["Key"] for entry in answer["Deleted"]) == gone
        assert "Errors" not in answer
        left = client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
        assert [entry["Key"] for entry in left] == [f"{prefix}stays"]

    assert target.where_the_storage_server_can("bulk deletes", deletes), "no storage server is known that lacks this"


def test_buckets_are_made_listed_and_deleted(target, prefix):
    name = f"made-{prefix[:-1]}"
    target.s3.create_bucket(Bucket=name)
    target.s3.head_bucket(Bucket=name)
    assert name in [bucket["Name"] for bucket in target.s3.list_buckets()["Buckets"]]
    target.s3.put_object(Bucket=name, Key="key", Body=b"x")
    target.s3.delete_object(Bucket=name, Key="key")
    target.s3.delete_bucket(Bucket=name)
    with pytest.raises(ClientError):
        target.s3.head_bucket(Bucket=name)
