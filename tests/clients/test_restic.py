"""restic (Debian): backup, check, restore, forget."""

import json
import os
import shutil

import files
from files import LARGE, MIB
from programs import Restic


def test_a_backup_is_made_checked_and_restored(target, prefix, tmp_path):
    restic, repository = Restic(target, tmp_path), f"{prefix}repository"
    wanted = files.tree(target, tmp_path / "data", large=2 * LARGE)
    restic.restic(repository, "init")
    first = json.loads(restic.restic(repository, "backup", "--json", "data").splitlines()[-1])
    assert (first["files_new"], first["data_added"] > 2 * LARGE) == (len(wanted), True)
    stored = files.listed(target, f"{repository}/data/")
    second = json.loads(restic.restic(repository, "backup", "--json", "data").splitlines()[-1])
    assert (second["files_unmodified"], second["data_blobs"]) == (len(wanted), 0)
    assert files.listed(target, f"{repository}/data/") == stored, "the second backup sent data"
    assert "no errors were found" in restic.restic(repository, "check", "--read-data")

    os.remove(tmp_path / "data/one")
    changed = {name: digest for name, digest in wanted.items() if name != "one"}
    changed["large.bin"] = files.write(target, tmp_path / "data/large.bin", 3 * MIB)
    restic.restic(repository, "backup", "data")
    # Without the cache, everything is read from the repository.
    shutil.rmtree(tmp_path / "cache")
    restic.restic(repository, "restore", first["snapshot_id"], "--target", "first")
    restic.restic(repository, "restore", "latest", "--target", "latest")
    assert files.hashes(tmp_path / "first/data") == wanted
    assert files.hashes(tmp_path / "latest/data") == changed

    restic.restic(repository, "forget", "--keep-last", "1", "--prune")
    assert "no errors were found" in restic.restic(repository, "check", "--read-data")
    assert len(json.loads(restic.restic(repository, "snapshots", "--json"))) == 1
    assert sum(size for size, _, _ in files.listed(target, f"{repository}/data/").values()) < LARGE
