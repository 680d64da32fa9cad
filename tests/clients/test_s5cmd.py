"""s5cmd: cp, sync, mv, cat, pipe, run, ls, du, rm."""

import os

import pytest

import files
from files import LARGE
from programs import S5cmd


@pytest.fixture
def cli(target, tmp_path):
    return S5cmd(target, tmp_path)


def _url(target, key=""):
    return f"s3://{target.bucket}/{key}"


def test_cp_of_a_large_file_and_copies_on_the_server(target, cli, prefix, tmp_path):
    wanted = files.write(target, tmp_path / "up", LARGE)
    cli.s5cmd("cp", "--part-size", 5, "--content-type", "application/x-claviger-test", "--metadata", "color=blue", "up",
              _url(target, f"{prefix}first"))
    head = target.s3.head_object(Bucket=target.bucket, Key=f"{prefix}first")
    assert (head["ContentType"], head["Metadata"]) == ("application/x-claviger-test", {"color": "blue"})
    cli.s5cmd("cp", _url(target, f"{prefix}first"), _url(target, f"{prefix}second"))
    cli.s5cmd("mv", _url(target, f"{prefix}first"), _url(target, f"{prefix}third"))
    cli.s5cmd("cp", "--part-size", 5, _url(target, f"{prefix}third"), "down")
    assert files.file_sha256(tmp_path / "down") == wanted
    assert files.stored(target, prefix) == {"second": wanted, "third": wanted}


def test_sync_there_across_and_back(target, cli, prefix, tmp_path):
    # It writes a space in the source of a copy as a plus, which S3 reads so and SeaweedFS does not.
    odd = {"odd": "letters-äöü/name.txt"} if target.name == "direct" else {}
    wanted = files.tree(target, tmp_path / "up", **odd)
    there, across = f"{prefix}there/", f"{prefix}across/"
    assert cli.s5cmd("sync", "up/", _url(target, there)).count("cp ") == len(wanted)
    assert files.stored(target, there) == wanted
    before = files.listed(target, there)
    assert cli.s5cmd("sync", "up/", _url(target, there)) == ""
    assert files.listed(target, there) == before
    cli.s5cmd("sync", _url(target, f"{there}*"), _url(target, across))
    assert files.stored(target, across) == wanted
    assert cli.s5cmd("sync", _url(target, f"{there}*"), _url(target, across)) == ""
    cli.s5cmd("sync", _url(target, f"{across}*"), "down/")
    assert files.hashes(tmp_path / "down") == wanted
    os.remove(tmp_path / "up/one")
    assert cli.s5cmd("sync", "--delete", "up/", _url(target, there)).split() == ["rm", _url(target, f"{there}one")]


def test_cat_pipe_and_run(target, cli, prefix, tmp_path):
    data = files.content(target, LARGE)
    cli.s5cmd("pipe", "--part-size", 5, _url(target, f"{prefix}piped"), stdin=data)
    assert files.sha256(cli.run("s5cmd", "cat", _url(target, f"{prefix}piped"))) == files.sha256(data)
    wanted = {f"{number}": files.write(target, tmp_path / f"{number}", 1000 + number) for number in range(20)}
    (tmp_path / "commands").write_text("".join(f"cp {name} {_url(target, prefix)}run/{name}\n" for name in wanted))
    cli.s5cmd("run", "commands")
    assert files.stored(target, f"{prefix}run/") == wanted


def test_ls_du_and_rm_of_many(target, cli, prefix):
    keys = files.put_many(target, prefix, 45)
    listed = [line.split() for line in cli.s5cmd("ls", _url(target, f"{prefix}*")).splitlines()]
    assert [(line[-2], line[-1]) for line in listed] == [(str(len(key)), key.removeprefix(prefix)) for key in keys]
    assert f"{sum(map(len, keys))} bytes in 45 objects" in cli.s5cmd("du", _url(target, f"{prefix}*"))
    assert cli.s5cmd("rm", _url(target, f"{prefix}*")).count("rm ") == 45
    assert files.listed(target, prefix) == {}
