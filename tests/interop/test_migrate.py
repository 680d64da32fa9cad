"""A bucket that was filled without the proxy is migrated while rclone and s3cmd go on syncing folders to it."""

import json
import os
import random
import subprocess
import threading
import types

import pytest

import clients
import target as targets
from deployment import Deployment
from servers import clean_environment, tool

BUCKET = "filled-without-the-proxy"
MIB = 1 << 20


@pytest.fixture
def deployment(weed, tmp_path):
    made = Deployment(tmp_path, (weed.url, weed.access_key, weed.secret_key))
    made.edit("proxy.toml", r"(?m)^\[default_bucket\]$", '[default_bucket]\nunencrypted = "migrate"')
    try:
        made.start_custodian()
        made.must("key", "create", "records")
        yield made
        made.stop()
    except BaseException:
        made.kill()
        raise


def _endpoint(url, access_key, secret_key, ca=""):
    exports = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key,
               "AWS_DEFAULT_REGION": "us-east-1", "AWS_CA_BUNDLE": ca}
    return types.SimpleNamespace(url=url, access_key=access_key, secret_key=secret_key, region="us-east-1", ca=ca, exports=exports)


def _client(kind, endpoint, folder):
    folder.mkdir()
    return kind(endpoint, folder)


def _fill(folder):
    """Files of many sizes, some that are uploaded in parts."""
    for number in range(60):
        path = folder / f"{number % 7}/file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(random.choice([0, 1, 300, 5_000, 70_000, 200_000])))
    (folder / "large").write_bytes(random.randbytes(12 * MIB + 7))


def _change(folder, turn):
    """New content in some files, one file more, one less."""
    for number in range(turn, 60, 9):
        path = folder / f"{number % 7}/file {number}"
        if path.exists():
            path.write_bytes(random.randbytes(1_000 + turn))
            os.utime(path, (1_700_000_000 + turn, 1_700_000_000 + turn))
    (folder / f"new {turn}").write_bytes(random.randbytes(4_000))
    (folder / f"{turn % 7}/file {turn}").unlink(missing_ok=True)


def _rclone_sync(rclone, folder):
    rclone.run("rclone", "sync", "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", folder, f"c:{BUCKET}/rclone")


def _s3cmd_sync(s3cmd, folder):
    done = s3cmd.run("s3cmd", "--no-progress", "--multipart-chunk-size-mb=5", "--delete-removed", "sync", f"{folder}/",
                     f"s3://{BUCKET}/s3cmd/")
    return done.decode()


def _same(s3, prefix, folder):
    wanted = {f"{prefix}{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    listed = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
    assert listed == {key: len(body) for key, body in wanted.items()}
    for key, body in wanted.items():
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body, key


def test_a_bucket_is_migrated_under_two_syncing_clients(deployment, weed, tmp_path):
    direct = targets.s3_client(weed.url, weed.access_key, weed.secret_key)
    direct.create_bucket(Bucket=BUCKET)
    folders = {name: tmp_path / name for name in ("rclone", "s3cmd")}
    for folder in folders.values():
        folder.mkdir()
        _fill(folder)
    bare = _endpoint(weed.url, weed.access_key, weed.secret_key)
    _rclone_sync(_client(clients.Rclone, bare, tmp_path / "bare-rclone"), folders["rclone"])
    _s3cmd_sync(_client(clients.S3cmd, bare, tmp_path / "bare-s3cmd"), folders["s3cmd"])

    s3 = deployment.start_proxy()
    deployment.must("migrate", BUCKET, "--begin", "--manifest-only", "--config", deployment.dir / "proxy.toml")
    for name, folder in folders.items():
        _same(s3, f"{name}/", folder)

    credentials = s3._request_signer._credentials  # noqa: SLF001, what the deployment made
    front = _endpoint(f"https://localhost:{deployment.proxy_port}", credentials.access_key, credentials.secret_key,
                      str(deployment.dir / "certs/ca.crt"))
    rclone = _client(clients.Rclone, front, tmp_path / "rclone-home")
    s3cmd = _client(clients.S3cmd, front, tmp_path / "s3cmd-home")
    failures = []

    def syncing(sync, client, folder):
        try:
            for turn in range(3):
                _change(folder, turn)
                sync(client, folder)
        except Exception as failure:  # noqa: BLE001, the test tells it
            failures.append(failure)

    threads = [threading.Thread(target=syncing, args=arguments)
               for arguments in ((_rclone_sync, rclone, folders["rclone"]), (_s3cmd_sync, s3cmd, folders["s3cmd"]))]
    for thread in threads:
        thread.start()
    command = [deployment.binary, "migrate", BUCKET, "--config", deployment.dir / "proxy.toml", "--json", "--concurrency", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(tmp_path), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, check=False)
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["complete"] and report["failed"] == 0 and report["done"] > 50, report

    for name, folder in folders.items():
        _same(s3, f"{name}/", folder)
    pages = direct.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    for entry in (entry for page in pages for entry in page["Contents"]):
        assert "claviger" in direct.head_object(Bucket=BUCKET, Key=entry["Key"])["Metadata"], entry["Key"]

    # What is migrated is nothing new to either client.
    before = {entry["Key"]: entry["ETag"] for page in pages for entry in page["Contents"]}
    _rclone_sync(rclone, folders["rclone"])
    _s3cmd_sync(s3cmd, folders["s3cmd"])
    assert {entry["Key"]: entry["ETag"] for page in pages for entry in page["Contents"]} == before
    checked = subprocess.run([tool("rclone"), "check", "--download", folders["rclone"], f"c:{BUCKET}/rclone"], cwd=rclone.folder,
                             env=rclone.environment, capture_output=True, text=True, timeout=120, check=False)
    assert checked.returncode == 0, checked.stderr
