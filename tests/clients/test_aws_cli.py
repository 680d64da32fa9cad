"""aws-cli, the first version and the second: cp, mv, sync, ls, rm."""

import os

import pytest

import files
from files import LARGE
from programs import Aws, Aws2

PARTS = "[default]\ns3 =\n    multipart_threshold = 5MB\n    multipart_chunksize = 5MB\n"


@pytest.fixture(params=[Aws, Aws2], ids=["v1", "v2"])
def cli(request, target, tmp_path):
    client = request.param(target, tmp_path)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(PARTS)
    return client


def _url(target, key=""):
    return f"s3://{target.bucket}/{key}"


def test_it_is_the_version_it_should_be(cli):
    assert cli.aws("--version").startswith({"Aws": "aws-cli/1.46.", "Aws2": "aws-cli/2."}[type(cli).__name__])


def test_cp_moves_large_files_with_their_headers(target, cli, prefix, tmp_path):
    wanted = files.write(target, tmp_path / "up", LARGE)
    cli.aws("s3", "cp", "up", _url(target, f"{prefix}first"), "--content-type", "application/x-claviger-test", "--metadata", "color=blue")
    cli.aws("s3", "cp", _url(target, f"{prefix}first"), _url(target, f"{prefix}second"))
    cli.aws("s3", "cp", _url(target, f"{prefix}second"), "down")
    assert files.file_sha256(tmp_path / "down") == wanted
    # The first version copies in parts without the headers.
    for name in ("first", "second") if isinstance(cli, Aws2) else ("first",):
        head = target.s3.head_object(Bucket=target.bucket, Key=prefix + name)
        assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (LARGE, "application/x-claviger-test", {"color": "blue"})
    assert files.no_uploads_left(target, prefix)


def test_cp_takes_and_gives_streams(target, cli, prefix):
    data = files.content(target, LARGE)
    cli.aws("s3", "cp", "-", _url(target, f"{prefix}stream"), stdin=data)
    assert files.sha256(cli.run(cli.program, "--endpoint-url", target.url, "s3", "cp", _url(target, f"{prefix}stream"), "-")) == files.sha256(data)


def test_mv_leaves_nothing_behind(target, cli, prefix, tmp_path):
    wanted = files.write(target, tmp_path / "file", LARGE)
    cli.aws("s3", "mv", "file", _url(target, f"{prefix}first"))
    assert not (tmp_path / "file").exists()
    cli.aws("s3", "mv", _url(target, f"{prefix}first"), _url(target, f"{prefix}second"))
    assert list(files.listed(target, prefix)) == ["second"]
    cli.aws("s3", "mv", _url(target, f"{prefix}second"), "file")
    assert files.file_sha256(tmp_path / "file") == wanted
    assert files.listed(target, prefix) == {}


def test_sync_there_across_and_back(target, cli, prefix, tmp_path):
    wanted = files.tree(target, tmp_path / "up")
    there, across = f"{prefix}there/", f"{prefix}across/"
    cli.aws("s3", "sync", "up", _url(target, there))
    assert files.stored(target, there) == wanted
    before = files.listed(target, there)
    assert cli.aws("s3", "sync", "up", _url(target, there)) == ""
    assert files.listed(target, there) == before

    cli.aws("s3", "sync", _url(target, there), _url(target, across))
    assert files.stored(target, across) == wanted
    before = files.listed(target, across)
    assert cli.aws("s3", "sync", _url(target, there), _url(target, across)) == ""
    assert files.listed(target, across) == before

    cli.aws("s3", "sync", _url(target, across), "down")
    assert files.hashes(tmp_path / "down") == wanted
    assert cli.aws("s3", "sync", _url(target, across), "down") == ""

    os.remove(tmp_path / "up/one")
    wanted = files.hashes(tmp_path / "up") | {"large.bin": files.write(target, tmp_path / "up/large.bin", LARGE + 1)}
    said = cli.aws("s3", "sync", "--delete", "--no-progress", "up", _url(target, there))
    assert sorted(line.split()[0] for line in said.splitlines()) == ["delete:", "upload:"]
    assert files.stored(target, there) == wanted


def test_ls_and_rm_recursive_go_through_all_pages(target, cli, prefix):
    keys = files.put_many(target, prefix, 45)
    lines = cli.aws("s3", "ls", "--recursive", "--page-size", 20, _url(target, prefix)).splitlines()
    assert [line.split(maxsplit=3)[2:] for line in lines] == [[str(len(key)), key] for key in keys]
    assert cli.aws("s3", "ls", _url(target, prefix)).split() == ["PRE", "page/"]
    said = cli.aws("s3", "rm", "--recursive", "--page-size", 20, "--exclude", "*0000", _url(target, prefix))
    assert said.count("delete:") == 44
    assert list(files.listed(target, prefix)) == ["page/0000"]
