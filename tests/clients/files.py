"""Files to send and to compare: by SHA-256, never by what a client says of them."""

import hashlib
import os
import random
import time

MIB = 1 << 20
PART = 5 * MIB
LARGE = 12 * MIB + 12_345


def content(target, size):
    """Random bytes; with the target's marker in each MiB, so that the last search covers every part of every upload."""
    data = bytearray(random.randbytes(size))
    mark = target.marker.encode()
    for start in range(0, size - len(mark), MIB):
        at = start + min(size - start, MIB) // 2
        data[at:at + len(mark)] = mark[:max(0, size - at)]
    assert len(data) == size
    return bytes(data)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def file_sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(target, path, size):
    """A file of random bytes; gives its hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(target, size))
    return file_sha256(path)


def tree(target, folder, large=LARGE, small=8, odd="letters äöü €/name with spaces & +plus.txt"):
    """A folder as people have them: empty, small and large files, folders, spaces, letters outside ASCII."""
    sizes = {"empty": 0, "one": 1, odd: 70_000, "a/b/c/deep.bin": 65_536, "large.bin": large}
    sizes |= {f"many/file-{number:03}.txt": 100 + number for number in range(small)}
    for name, size in sizes.items():
        write(target, folder / name, size)
        # Syncs take a file for changed when it is younger than the object, whose time has no fractions of a second.
        os.utime(folder / name, (time.time() - 3600,) * 2)
    return hashes(folder)


def hashes(folder):
    """`{relative name: SHA-256}` of all files below `folder`."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            found[os.path.relpath(path, folder)] = file_sha256(path)
    return found


def stored(target, prefix):
    """`{key less prefix: SHA-256}` of all objects below `prefix`, as boto3 reads them."""
    pages = target.s3.get_paginator("list_objects_v2").paginate(Bucket=target.bucket, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    read = {key: target.s3.get_object(Bucket=target.bucket, Key=key)["Body"].read() for key in keys}
    return {key.removeprefix(prefix): sha256(data) for key, data in read.items()}


def listed(target, prefix):
    """`{key less prefix: (size, ETag, last change)}`: what a second run of a sync leaves as it is."""
    pages = target.s3.get_paginator("list_objects_v2").paginate(Bucket=target.bucket, Prefix=prefix)
    return {entry["Key"].removeprefix(prefix): (entry["Size"], entry["ETag"], entry["LastModified"])
            for page in pages for entry in page.get("Contents", [])}


def put(target, key, size, **extra):
    """An object written by boto3 in one request; gives its hash."""
    data = content(target, size)
    target.s3.put_object(Bucket=target.bucket, Key=key, Body=data, **extra)
    return sha256(data)


def put_many(target, prefix, count):
    """Small objects enough for several pages."""
    keys = [f"{prefix}page/{number:04}" for number in range(count)]
    for key in keys:
        target.s3.put_object(Bucket=target.bucket, Key=key, Body=key.encode())
    return keys


def no_uploads_left(target, prefix):
    """Whether all multipart uploads below `prefix` are finished or aborted."""
    return not target.s3.list_multipart_uploads(Bucket=target.bucket, Prefix=prefix).get("Uploads")
