"""s3cmd: put, get, sync, --continue and --continue-put, cp, mv, modify, del."""

import os

import pytest

import files
from files import LARGE, PART
from programs import S3cmd


@pytest.fixture
def cli(target, tmp_path):
    return S3cmd(target, tmp_path)


def _url(target, key=""):
    return f"s3://{target.bucket}/{key}"


def test_put_and_get_of_a_large_file(target, cli, prefix, tmp_path):
    wanted = files.write(target, tmp_path / "up", LARGE)
    cli.s3cmd("put", "up", _url(target, f"{prefix}large"), "--mime-type=application/x-claviger-test", "--add-header=x-amz-meta-color:blue")
    head = target.s3.head_object(Bucket=target.bucket, Key=f"{prefix}large")
    assert (head["ContentLength"], head["ContentType"]) == (LARGE, "application/x-claviger-test")
    assert head["Metadata"]["color"] == "blue"
    said = cli.s3cmd("get", _url(target, f"{prefix}large"), "down")
    assert "MD5 signatures do not match" not in said
    assert files.file_sha256(tmp_path / "down") == wanted
    assert files.no_uploads_left(target, prefix)


def test_get_continues(target, cli, prefix, tmp_path):
    wanted = files.write(target, tmp_path / "up", LARGE)
    cli.s3cmd("put", "up", _url(target, f"{prefix}large"))
    (tmp_path / "down").write_bytes((tmp_path / "up").read_bytes()[:PART + 77])
    cli.s3cmd("get", "--continue", _url(target, f"{prefix}large"), "down")
    assert files.file_sha256(tmp_path / "down") == wanted


def test_a_killed_put_is_continued(target, cli, prefix, tmp_path):
    where = {"Bucket": target.bucket, "Key": f"{prefix}large"}
    wanted = files.write(target, tmp_path / "up", 3 * PART + 1000)
    with cli.running("s3cmd", "--no-progress", "--multipart-chunk-size-mb=5", "--limit-rate=5m", "put", "up", _url(target, where["Key"])) as put:
        def parts():
            uploads = target.s3.list_multipart_uploads(Bucket=target.bucket, Prefix=prefix).get("Uploads", [])
            there = [target.s3.list_parts(**where, UploadId=upload["UploadId"]).get("Parts") for upload in uploads]
            return there and there[0]
        put.wait_until(parts, "first part")
    cli.s3cmd("put", "--continue-put", "up", _url(target, where["Key"]))
    assert files.stored(target, prefix) == {"large": wanted}
    assert files.no_uploads_left(target, prefix), "it began another upload"


def test_sync_there_and_back(target, cli, prefix, tmp_path):
    wanted = files.tree(target, tmp_path / "up")
    cli.s3cmd("sync", "up/", _url(target, prefix))
    assert files.stored(target, prefix) == wanted
    before = files.listed(target, prefix)
    said = cli.s3cmd("sync", "up/", _url(target, prefix))
    assert "upload:" not in said
    assert files.listed(target, prefix) == before
    cli.s3cmd("sync", _url(target, prefix), "down/")
    assert files.hashes(tmp_path / "down") == wanted
    assert "download:" not in cli.s3cmd("sync", _url(target, prefix), "down/")

    os.remove(tmp_path / "up/one")
    # As long as before: s3cmd has to see that the content is another.
    wanted = files.hashes(tmp_path / "up") | {"large.bin": files.write(target, tmp_path / "up/large.bin", LARGE)}
    said = cli.s3cmd("sync", "--delete-removed", "up/", _url(target, prefix))
    assert said.count("delete: ") == 1
    assert "large.bin" in said and "deep.bin" not in said
    assert files.stored(target, prefix) == {name: digest for name, digest in wanted.items() if name != "one"}


def test_sync_across(target, cli, prefix, tmp_path):
    wanted = files.tree(target, tmp_path / "up")
    there, across = f"{prefix}there/", f"{prefix}across/"
    cli.s3cmd("sync", "up/", _url(target, there))
    cli.s3cmd("sync", _url(target, there), _url(target, across))
    assert files.stored(target, across) == wanted
    before = files.listed(target, across)
    cli.s3cmd("sync", _url(target, there), _url(target, across))
    assert files.listed(target, across) == before


@pytest.mark.parametrize("size", [100, LARGE])
def test_cp_mv_and_modify(target, cli, prefix, size, tmp_path):
    wanted = files.write(target, tmp_path / "up", size)
    cli.s3cmd("put", "up", _url(target, f"{prefix}first"), "--mime-type=application/x-claviger-test")
    cli.s3cmd("cp", _url(target, f"{prefix}first"), _url(target, f"{prefix}second"))
    cli.s3cmd("mv", _url(target, f"{prefix}first"), _url(target, f"{prefix}third"))
    cli.s3cmd("modify", "--add-header=x-amz-meta-color:red", _url(target, f"{prefix}third"))
    assert files.stored(target, prefix) == {"second": wanted, "third": wanted}
    head = target.s3.head_object(Bucket=target.bucket, Key=f"{prefix}third")
    assert (head["ContentType"], head["Metadata"]["color"]) == ("application/x-claviger-test", "red")
    assert f"{size}" in cli.s3cmd("info", _url(target, f"{prefix}third"))


def test_ls_du_and_del_of_many(target, cli, prefix):
    keys = files.put_many(target, prefix, 30)
    lines = cli.s3cmd("ls", "--recursive", _url(target, prefix)).splitlines()
    assert [line.split(maxsplit=3)[2:] for line in lines] == [[str(len(key)), _url(target, key)] for key in keys]
    assert cli.s3cmd("du", _url(target, prefix)).split()[:2] == [str(sum(map(len, keys))), "30"]
    cli.s3cmd("del", "--recursive", "--force", _url(target, prefix))
    assert files.listed(target, prefix) == {}
