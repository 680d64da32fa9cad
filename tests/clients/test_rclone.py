"""rclone, the newest and Debian's: copy, sync, check, copies within the remote, streams, ncdu, mount."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
import time

import pytest

import files
from files import LARGE, MIB, PART
from programs import OldRclone, Rclone
from servers import tool

NOTHING = "There was nothing to transfer"


@pytest.fixture(params=[Rclone, OldRclone], ids=["newest", "debian"])
def cli(request, target, tmp_path):
    return request.param(target, tmp_path)


def _remote(target, key=""):
    return f"c:{target.bucket}/{key}"


def _transferred(said):
    """How many files the last statistics of `--stats-one-line`-less output speak of."""
    return sum(": Copied (" in line or "Updated modification time" in line for line in said.splitlines())


def test_it_is_the_version_it_should_be(cli):
    assert cli.rclone("version").startswith("rclone v1.60." if isinstance(cli, OldRclone) else "rclone v1.75.")


def test_sync_and_check_there_across_and_back(target, cli, prefix, tmp_path):
    wanted = files.tree(target, tmp_path / "up")
    there, across = _remote(target, f"{prefix}there"), _remote(target, f"{prefix}across")
    for source, destination, where in (("up", there, "there/"), (there, across, "across/"), (across, "down", None)):
        assert _transferred(cli.rclone("sync", "--verbose", source, destination)) == len(wanted)
        found = files.hashes(tmp_path / "down") if where is None else files.stored(target, prefix + where)
        assert found == wanted
        before = files.listed(target, prefix)
        said = cli.rclone("sync", "--verbose", source, destination)
        assert NOTHING in said and _transferred(said) == 0
        assert files.listed(target, prefix) == before
        cli.rclone("check", source, destination)
        cli.rclone("check", "--download", source, destination)

    os.remove(tmp_path / "up/one")
    wanted = files.hashes(tmp_path / "up") | {"large.bin": files.write(target, tmp_path / "up/large.bin", LARGE)}
    said = cli.rclone("sync", "--verbose", "up", there)
    assert _transferred(said) == 1 and said.count(": Deleted") == 1
    assert files.stored(target, f"{prefix}there/") == wanted
    differ = cli.rclone("check", "--download", there, across, expect=1)
    assert "2 differences found" in differ


def test_copy_leaves_what_is_there(target, cli, prefix, tmp_path):
    wanted = files.tree(target, tmp_path / "up")
    kept = files.put(target, f"{prefix}kept", 100)
    cli.rclone("copy", "--metadata", "up", _remote(target, prefix))
    assert files.stored(target, prefix) == wanted | {"kept": kept}
    assert NOTHING in cli.rclone("copy", "--verbose", "up", _remote(target, prefix))
    size = json.loads(cli.run(cli.program, "size", "--json", _remote(target, prefix)))
    assert (size["count"], size["bytes"]) == (len(wanted) + 1, 100 + sum(path.stat().st_size for path in (tmp_path / "up").rglob("*")
                                                                        if path.is_file()))


@pytest.mark.parametrize("size", [100, LARGE])
def test_copyto_and_moveto_within_the_remote(target, cli, prefix, size, tmp_path):
    wanted = files.write(target, tmp_path / "up", size)
    cli.rclone("copyto", "--header-upload", "Content-Type: application/x-claviger-test", "up", _remote(target, f"{prefix}first"))
    cli.rclone("copyto", _remote(target, f"{prefix}first"), _remote(target, f"{prefix}second"))
    cli.rclone("moveto", _remote(target, f"{prefix}first"), _remote(target, f"{prefix}third"))
    assert files.stored(target, prefix) == {"second": wanted, "third": wanted}
    (entry,) = json.loads(cli.run(cli.program, "lsjson", _remote(target, f"{prefix}third")))
    assert entry["Size"] == size
    if not isinstance(cli, OldRclone) or size < PART:
        # The old one forgets it in parts.
        assert entry["MimeType"] == "application/x-claviger-test"
    # Sets a time: a copy onto itself.
    cli.rclone("touch", "--timestamp", "2020-02-02T02:02:02", _remote(target, f"{prefix}third"))
    (entry,) = json.loads(cli.run(cli.program, "lsjson", _remote(target, f"{prefix}third")))
    assert entry["ModTime"].startswith("2020-02-02T02:02:02")
    assert files.stored(target, prefix) == {"second": wanted, "third": wanted}


def test_streams_and_ranges(target, cli, prefix):
    data = files.content(target, LARGE)
    cli.rclone("rcat", "--streaming-upload-cutoff", "1Mi", _remote(target, f"{prefix}stream"), stdin=data)
    assert files.stored(target, prefix) == {"stream": files.sha256(data)}
    found = cli.run(cli.program, "cat", "--offset", PART - 1000, "--count", 2000, _remote(target, f"{prefix}stream"))
    assert found == data[PART - 1000:PART + 1000]


def test_many_keys_are_listed_and_purged(target, cli, prefix):
    keys = files.put_many(target, prefix, 45)
    listed = cli.run(cli.program, "lsf", "--recursive", "--files-only", "--s3-list-chunk", "20", _remote(target, prefix)).decode()
    assert [prefix + line for line in listed.split()] == keys
    cli.rclone("purge", _remote(target, prefix))
    assert files.listed(target, prefix) == {}


def test_ncdu_shows_what_there_is(target, cli, prefix):
    files.put(target, f"{prefix}folder-of-the-test/object", 3 * MIB)
    mine, theirs = pty.openpty()
    environment = {**cli.environment, "TERM": "xterm"}
    shown, texts = bytearray(), (b"folder-of-the-test", b"3M")
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def own_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with subprocess.Popen([tool(cli.program), "ncdu", _remote(target, prefix)], env=environment, cwd=cli.folder, stdin=theirs,
                          stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=own_terminal) as child:
        os.close(theirs)
        os.set_blocking(mine, False)
        end = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < end:
            try:
                shown += os.read(mine, 65536)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
            if all(text in shown for text in texts):
                os.write(mine, b"q")
        child.kill()
    os.close(mine)
    assert all(text in shown for text in texts), bytes(shown)


def test_a_mount_is_a_file_system(target, cli, prefix, tmp_path):
    files.put(target, f"{prefix}there", 1000)
    arguments = ["mount", "--vfs-cache-mode", "writes", "--vfs-write-back", "0", "--dir-cache-time", "1s", "--s3-upload-cutoff", "5Mi",
                 "--s3-chunk-size", "5Mi", _remote(target, prefix), str(tmp_path / "mount")]
    data = files.content(target, LARGE)
    with cli.mounted(tmp_path / "mount", cli.program, *arguments) as mount:
        assert (mount / "there").stat().st_size == 1000
        (mount / "folder").mkdir()
        (mount / "folder/large").write_bytes(data)
        with open(mount / "folder/large", "rb") as file:
            for start in (2 * PART, PART - 100, 0):
                file.seek(start)
                assert file.read(200) == data[start:start + 200]
        os.rename(mount / "there", mount / "renamed")
        (mount / "renamed").write_bytes(b"other")
        assert sorted(os.listdir(mount)) == ["folder", "renamed"]
        (mount / "gone").write_bytes(b"soon")
        os.remove(mount / "gone")
    assert files.stored(target, prefix) == {"folder/large": files.sha256(data), "renamed": files.sha256(b"other")}
