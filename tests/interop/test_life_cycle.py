"""A KEK's life as its officers see it: rotated, rewrapped, counted, retired, destroyed, under applications that never see an error."""

import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import threading
import time

import pytest
from botocore.exceptions import ClientError

import target as targets
from deployment import Deployment
from servers import Process, clean_environment, free_ports

# Objects under the first version; every 500th comes in parts.
OBJECTS = int(os.environ.get("CLAVIGER_LIFE_CYCLE_OBJECTS", "5000"))
PART = 5 << 20


def made(folder, weed, name):
    """A deployment with waits that a test can sit out."""
    deployment = Deployment(folder, (weed.url, weed.access_key, weed.secret_key))
    deployment.edit("proxy.toml", r'state_bucket = ".*"', f'state_bucket = "{name}-state"')
    deployment.edit("custodian.toml", "destroy_wait_days = 30", "insecure_destroy_wait_s = 2\ninsecure_retire_wait_s = 2")
    deployment.config = ["--config", deployment.dir / "proxy.toml"]
    deployment.start_custodian()
    deployment.must("key", "create", "records")
    deployment.s3 = deployment.start_proxy()
    return deployment


def approved(deployment, *arguments):
    """Runs what two others have to approve, has them approve it, and runs it again."""
    proposal = deployment.gated(*arguments)
    for who in ("bob", "carol"):
        deployment.must("approve", proposal, who=who)
    return deployment.must(*arguments)


def body(key):
    """What an object holds follows from its key, so that nobody has to remember it."""
    seed = hashlib.sha256(key.encode()).digest()
    length = 2 * PART + 17 if key.endswith("-parts") else 1 + int.from_bytes(seed[:2]) % 4000
    return (seed * (length // 32 + 1))[:length]


def put(s3, bucket, key):
    if not key.endswith("-parts"):
        s3.put_object(Bucket=bucket, Key=key, Body=body(key))
        return
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(body(key)), PART), 1):
        part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body(key)[start:start + PART])
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def right(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body(key)


def each(keys, work):
    """`work` for each key, eight at a time."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, keys))


class Application(threading.Thread):
    """Writes and reads all the time. It never sees an error: what it saw stands in `errors`."""

    def __init__(self, s3, bucket):
        super().__init__(daemon=True)
        self.s3, self.bucket, self.written, self.errors, self.stopped = s3, bucket, [], [], threading.Event()

    def run(self):
        while not self.stopped.is_set():
            key = f"running/{len(self.written):06}"
            try:
                put(self.s3, self.bucket, key)
                self.written.append(key)
                older = self.written[hash(key) % len(self.written)]
                assert right(self.s3, self.bucket, older), f"{older} has other bytes"
            except Exception as error:  # whatever it is, the application saw it
                self.errors.append(f"{key}: {error}")
            time.sleep(0.005)

    def end(self):
        self.stopped.set()
        self.join(60)
        assert not self.errors, self.errors[:3]
        assert len(self.written) > 100, "it hardly did anything"


def another_proxy(deployment):
    """One more proxy of the same configuration, with nothing in memory."""
    port, = free_ports(1)
    text = (deployment.dir / "proxy.toml").read_text()
    text = text.replace(f'listen = "127.0.0.1:{deployment.proxy_port}"', f'listen = "127.0.0.1:{port}"')
    text = text.replace('folder = "access-log"', f'folder = "access-log-{port}"')
    config = deployment.dir / f"proxy-{port}.toml"
    config.write_text(text)
    command = [deployment.binary, "proxy", "--config", config]
    process = Process(f"proxy-{port}", command, deployment.home, clean_environment(deployment.home, CLAVIGER_LOG="info"))
    process.wait_until(lambda: "the proxy serves" in process.log_tail(), "line that says it serves")
    process.s3 = deployment.client(port)
    return process


def needed(deployment, kek="records"):
    census = deployment.json("key", "census", kek)
    assert census["kek"] == kek
    return {int(version): found["branch_keys"] for version, found in census["versions"].items() if found["branch_keys"]}


def test_a_version_is_rotated_out_retired_and_destroyed_while_applications_work(weed, tmp_path):
    deployment = made(tmp_path, weed, "life")
    try:
        bucket = "life-cycle"
        deployment.s3.create_bucket(Bucket=bucket)
        keys = [f"first/{index:05}{'-parts' if index % 500 == 0 else ''}" for index in range(OBJECTS)]
        each(keys, lambda key: put(deployment.s3, bucket, key))
        application = Application(deployment.s3, bucket)
        application.start()
        assert set(needed(deployment)) == {1}

        deployment.must("key", "rotate", "records")
        time.sleep(1)
        later = [f"second/{index:05}" for index in range(200)]
        each(later, lambda key: put(deployment.s3, bucket, key))
        shown = deployment.json("inspect", f"{bucket}/{later[-1]}", *deployment.config)
        assert shown["kek_version"] == 2, shown
        early = deployment.run("key", "retire", "records", "--before", "v2", *deployment.config)
        assert early.returncode == 1 and "rewrap" in early.stderr, early.stderr

        deployment.must("key", "rewrap", "records", *deployment.config)
        assert set(needed(deployment)) == {2}
        counted = deployment.json("key", "census", "records", "--objects", f"{bucket}/second/", *deployment.config)
        objects = {int(version): found["objects"] for version, found in counted["versions"].items()}
        assert sum(objects.values()) == len(later) == counted["objects"]["listed"] and objects[2] > 0, counted
        approved(deployment, "key", "retire", "records", "--before", "v2", *deployment.config)
        assert all(each(keys[::7], lambda key: right(deployment.s3, bucket, key)))

        fresh = another_proxy(deployment)
        everything = keys + later
        assert all(each(everything, lambda key: right(fresh.s3, bucket, key)))
        fresh.terminate()

        approved(deployment, "key", "destroy", "records:v1")
        time.sleep(3)
        approved(deployment, "key", "destroy", "records:v1")
        assert "records" in deployment.must("key", "certificate", "records:v1")
        fresh = another_proxy(deployment)
        assert all(each(everything, lambda key: right(fresh.s3, bucket, key)))
        fresh.terminate()
        application.end()
        assert all(each(application.written, lambda key: right(deployment.s3, bucket, key)))
        deployment.must("verify", f"{bucket}/second/", *deployment.config)
        deployment.stop()
    except BaseException:
        deployment.kill()
        raise


@pytest.fixture(scope="module")
def tenants(weed, tmp_path_factory):
    deployment = made(tmp_path_factory.mktemp("tenants"), weed, "tenants")
    try:
        yield deployment
        deployment.stop()
    except BaseException:
        deployment.kill()
        raise


def raw_copy(weed, bucket):
    """What somebody has who copied a bucket of the storage server: bytes and metadata."""
    direct = targets.s3_client(weed.url, weed.access_key, weed.secret_key)
    pages = direct.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    found = {key: direct.get_object(Bucket=bucket, Key=key) for key in keys}
    return {key: (answer["Body"].read(), answer["Metadata"]) for key, answer in found.items()}


def put_back(weed, bucket, copied):
    direct = targets.s3_client(weed.url, weed.access_key, weed.secret_key)
    for key, (data, metadata) in copied.items():
        direct.put_object(Bucket=bucket, Key=key, Body=data, Metadata=metadata)


def test_one_tenant_is_erased_for_good_and_the_others_are_untouched(tenants, weed):
    tenants.must("key", "create", "tenant-a")
    tenants.edit("proxy.toml", r'(\[default_bucket\]\nkek = "records")', r'\1\nfurther_keks = ["tenant-a"]')
    tenants.proxy.terminate()
    tenants.s3 = tenants.start_proxy()
    bucket = "shared-by-tenants"
    tenants.s3.create_bucket(Bucket=bucket)
    chosen = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "tenant-a"}
    tenants.s3.put_object(Bucket=bucket, Key="a/contract", Body=b"of tenant a", **chosen)
    tenants.s3.put_object(Bucket=bucket, Key="b/contract", Body=b"of tenant b")
    copied, state = raw_copy(weed, bucket), raw_copy(weed, "tenants-state")
    approved(tenants, "key", "destroy", "tenant-a")
    with pytest.raises(ClientError):
        tenants.s3.get_object(Bucket=bucket, Key="a/contract")
    time.sleep(3)
    approved(tenants, "key", "destroy", "tenant-a")
    put_back(weed, bucket, copied)
    put_back(weed, "tenants-state", state)
    tenants.proxy.terminate()
    refused = tenants.run("check", *tenants.config)
    tenants.edit("proxy.toml", r'\nfurther_keks = \["tenant-a"\]', '\nformer_keks = ["tenant-a"]')
    tenants.s3 = tenants.start_proxy()
    with pytest.raises(ClientError):
        tenants.s3.get_object(Bucket=bucket, Key="a/contract")
    assert tenants.s3.get_object(Bucket=bucket, Key="b/contract")["Body"].read() == b"of tenant b"
    assert refused.returncode in (0, 2)
    again = tenants.run("key", "create", "tenant-a")
    assert again.returncode == 1 and "destroyed" in again.stderr, again.stderr


def send_forged_share(tenants, backup, identity, who):
    """`who` sends what has the number and the checksum of the share that `identity` opens, and another value."""
    tenants.must("key", "backup-share", backup, "--identity", identity, "--out", tenants.home / "share")
    share = bytearray(base64.b64decode((tenants.home / "share").read_text()))
    share[18] ^= 1
    share[-4:] = hashlib.sha256(share[:-4]).digest()[:4]
    certs = tenants.dir / "certs"
    context = ssl.create_default_context(cafile=str(certs / "ca.crt"))
    context.load_cert_chain(certs / f"officer-{who}.crt", certs / f"officer-{who}.key")
    approved = hashlib.sha256(backup.read_bytes().splitlines()[0]).hexdigest()
    body = {"backup_sha256": approved, "share": base64.b64encode(share).decode()}
    connection = http.client.HTTPSConnection(tenants.custodian_host, tenants.custodian_port, context=context, timeout=30)
    connection.request("POST", "/v1/sys/claviger/restore/share", json.dumps(body), {"X-Vault-Request": "true"})
    answer = connection.getresponse()
    told = json.load(answer)
    assert (answer.status, told.get("data")) == (200, {"shares": 1}), told
    connection.close()


def test_the_disaster_drill(tenants, weed):
    """docs/OPERATING.md, “When all is lost”: the custodian is lost, then the state bucket, and everything opens."""
    bucket, officers = "drill", []
    tenants.s3.create_bucket(Bucket=bucket)
    keys = [f"record-{index}" for index in range(30)]
    each(keys, lambda key: put(tenants.s3, bucket, key))
    tenants.must("key", "rotate", "records")
    tenants.must("key", "rewrap", "records", *tenants.config)
    for who in tenants.officers:
        identity = tenants.home / f"{who}.age"
        shown = tenants.must("key", "officer-identity", "--out", identity)
        officers.append((identity, shown.split()[-1]))
    to = [flag for _, recipient in officers for flag in ("--to", recipient)]
    backup = tenants.home / "keks.backup"
    approved(tenants, "key", "backup", *to, "--threshold", "2", "--out", backup)

    tenants.proxy.terminate()
    tenants.custodian.kill()
    shutil.rmtree(tenants.dir / "custodian")
    (tenants.dir / "custodian").mkdir()
    shutil.rmtree(tenants.home / "shares")
    tenants.must("custodian", "init", "--config", tenants.dir / "custodian.toml", "--shares-to", tenants.home / "shares")
    tenants.shares = sorted((tenants.home / "shares").iterdir())
    tenants.start_custodian()
    proposal = tenants.gated("key", "restore", backup)
    for who in ("bob", "carol"):
        tenants.must("approve", proposal, who=who)
    send_forged_share(tenants, backup, officers[0][0], who="carol")
    for who, (identity, _) in zip(tenants.officers[:2], officers):
        alone = tenants.run("key", "restore", backup)
        assert alone.returncode == 1, f"one officer's share is not enough\n{alone.stdout}{alone.stderr}"
        tenants.must("key", "backup-share", backup, "--identity", identity, "--send", who=who)
    restored = tenants.run("key", "restore", backup)
    assert restored.returncode == 0 and re.search(r"left out: share 1 of \S+officer/carol\.", restored.stderr), f"{restored.stdout}{restored.stderr}"
    tenants.s3 = tenants.start_proxy()
    assert all(each(keys, lambda key: right(tenants.s3, bucket, key)))
    assert needed(tenants), "the ledger came back, too"
    tenants.must("key", "rewrap", "records", *tenants.config)
    early = tenants.run("key", "retire", "records", "--before", "v2", *tenants.config)
    assert early.returncode == 1 and "claviger key adopt" in early.stderr, f"nobody knows what it lacks\n{early.stderr}"
    tenants.must("key", "adopt", "records", *tenants.config)
    tenants.must("verify", bucket, "--headers-only", *tenants.config)
    approved(tenants, "key", "declare-whole", "records")
    tenants.gated("key", "retire", "records", "--before", "v2", *tenants.config)

    direct = targets.s3_client(weed.url, weed.access_key, weed.secret_key)
    tenants.proxy.terminate()
    for key in raw_copy(weed, "tenants-state"):
        direct.delete_object(Bucket="tenants-state", Key=key)
    tenants.s3 = tenants.start_proxy()
    assert all(each(keys, lambda key: right(tenants.s3, bucket, key))), "each object opens from its own envelope"
    tenants.must("key", "rewrap", "records", "--repair", *tenants.config)
