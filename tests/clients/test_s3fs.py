"""s3fs-fuse (Debian): a mounted bucket."""

import os

import pytest

import files
import install
from files import LARGE, PART
from programs import Program


@pytest.fixture
def s3fs(target, tmp_path):
    """Mounts a bucket, or what lies below a prefix of it."""
    client = Program(target, tmp_path)
    (tmp_path / "passwd").touch(mode=0o600)
    (tmp_path / "passwd").write_text(f"{target.access_key}:{target.secret_key}")
    ca = {"CURL_CA_BUNDLE": target.ca} if target.ca else {}

    def mount(prefix, name="mount"):
        options = [f"url={target.url}", "use_path_request_style", f"passwd_file={tmp_path / 'passwd'}", f"endpoint={target.region}",
                   "multipart_size=5", "singlepart_copy_limit=6"]
        arguments = [option for one in options for option in ("-o", one)]
        where = f"{target.bucket}:/{prefix.rstrip('/')}" if prefix else target.bucket
        return client.mounted(tmp_path / name, install.debian("s3fs", "s3fs"), where, tmp_path / name, "-f", *arguments, **ca)
    return mount


@pytest.mark.embedded(only=True)  # SeaweedFS keeps neither content nor metadata of keys that end in a slash, s3fs's folders.
def test_a_mount_is_a_file_system(target, s3fs, prefix):
    target.s3.put_object(Bucket=target.bucket, Key=prefix, Body=b"")
    there = files.put(target, f"{prefix}there", 1000)
    data = files.content(target, LARGE)
    with s3fs(prefix) as mount:
        assert files.file_sha256(mount / "there") == there
        (mount / "folder").mkdir()
        (mount / "folder/large").write_bytes(data)
        assert files.file_sha256(mount / "folder/large") == files.sha256(data)
        with open(mount / "folder/large", "rb") as file:
            for start in (2 * PART, PART - 100, 0):
                file.seek(start)
                assert file.read(200) == data[start:start + 200]
        os.rename(mount / "there", mount / "renamed")
        os.rename(mount / "folder/large", mount / "folder/moved")
        os.chmod(mount / "renamed", 0o640)
        assert (mount / "renamed").stat().st_mode & 0o777 == 0o640
        (mount / "gone").write_bytes(b"soon")
        os.remove(mount / "gone")
        for number in range(20):
            (mount / f"folder/{number:02}").write_bytes(b"%d" % number)
        assert len(os.listdir(mount / "folder")) == 21
    stored = files.stored(target, prefix)
    assert stored["renamed"] == there and stored["folder/moved"] == files.sha256(data)
    assert stored["folder/07"] == files.sha256(b"7")
    assert not {"there", "gone", "folder/large"} & set(stored)


def test_a_large_file_is_changed_in_its_middle_and_grows(target, s3fs, prefix):
    """What stays is not sent again: s3fs has the storage server copy those parts."""
    name = f"{prefix[:-1]}-file"
    data = bytearray(files.content(target, 4 * PART))
    target.s3.put_object(Bucket=target.bucket, Key=name, Body=bytes(data))
    with s3fs("", "one") as mount, open(mount / name, "r+b") as file:
        file.seek(PART + 1234)
        file.write(b"in the middle")
    data[PART + 1234:PART + 1234 + 13] = b"in the middle"
    assert files.stored(target, name)[""] == files.sha256(data)
    with s3fs("", "two") as mount, open(mount / name, "ab") as file:
        file.write(b"at the end")
    assert files.stored(target, name)[""] == files.sha256(bytes(data) + b"at the end")
    assert files.no_uploads_left(target, name)
