"""A KEK's life at an OpenBao server, which has no ledger of branch keys: rewrapped, counted and retired by what the storage lists."""

import base64
import json
import os
import pty
import subprocess
import time

import pytest

import target as targets
from deployment import Deployment
from servers import OpenBao

pytestmark = pytest.mark.waits

STATE = "without-ledger-state"
BUCKETS = ("without-ledger-1", "without-ledger-2")


class AtOpenBao(Deployment):
    """A proxy whose custodian is an OpenBao server; commands call that as its administrator."""

    def __init__(self, folder, storage, bao):
        self.bao = bao
        super().__init__(folder, storage, write_renew_s=2, read_lease_s=2)
        bao.must("write", "transit/keys/records", "derived=true")
        verbs = ("datakey/plaintext", "decrypt", "rewrap")
        rules = "".join(f'path "transit/{verb}/records" {{ capabilities = ["update"] }}\n' for verb in verbs)
        (folder / "records.hcl").write_text(rules)
        bao.must("policy", "write", "records", str(folder / "records.hcl"))
        token = folder / "records.token"
        token.touch(mode=0o600)
        token.write_text(bao.must("token", "create", "-policy=records", "-period=1h", "-orphan", "-field=token"))
        section = f'[custodian]\nkind = "transit"\nurls = ["{bao.url}"]\nca_file = "{bao.folder / "vault-ca.pem"}"\ntoken_file = "{token}"\n'
        self.edit("proxy.toml", r'(?s)\[custodian\]\nkind = "transit".*?\nwatch = true\n', section)
        self.edit("proxy.toml", r'state_bucket = ".*"', f'state_bucket = "{STATE}"')
        self.config = ["--config", self.dir / "proxy.toml"]

    def environment(self, who="alice"):
        return self.bao.environment


@pytest.fixture
def life(weed, tmp_path):
    (tmp_path / "bao").mkdir()
    bao = OpenBao(tmp_path / "bao")
    try:
        deployment = AtOpenBao(tmp_path, (weed.url, weed.access_key, weed.secret_key), bao)
        deployment.s3 = deployment.start_proxy()
        deployment.direct = targets.s3_client(weed.url, weed.access_key, weed.secret_key)
        try:
            yield deployment
            deployment.stop()
        except BaseException:
            deployment.kill()
            raise
        finally:
            for key in entries(deployment):
                deployment.direct.delete_object(Bucket=STATE, Key=key)
    finally:
        bao.stop()


def entries(deployment):
    listed = deployment.direct.list_objects_v2(Bucket=STATE, Prefix="branch/records/")
    return [entry["Key"] for entry in listed.get("Contents", [])]


def entry(deployment, key):
    return deployment.direct.get_object(Bucket=STATE, Key=key)["Body"].read()


def versions(deployment):
    census = deployment.json("key", "census", "records", *deployment.config)
    assert census["kek"] == "records" and census["proof"] is False and census["source"] == "listing"
    return {version: found["branch_keys"] for version, found in census["versions"].items()}


def retire(deployment, *more):
    return deployment.run("key", "retire", "records", "--before", "v2", "--wait-s", "0", "--without-ledger", *more, *deployment.config)


def retire_at_terminal(deployment, answer):
    """As a person does it, who types `answer`."""
    ours, theirs = pty.openpty()
    command = [deployment.binary, "key", "retire", "records", "--before", "v2", "--wait-s", "0", "--without-ledger", *deployment.config]
    try:
        process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   cwd=deployment.home, env=deployment.environment())
        os.write(ours, f"{answer}\n".encode())
        output, errors = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    return process.returncode, output, errors


def oldest(deployment):
    shown = json.loads(deployment.bao.must("read", "-format=json", "transit/keys/records"))
    return shown["data"]["min_decryption_version"]


def another_key_of(deployment, data):
    """An entry with the context of `data` and another key, as a proxy could have had it made."""
    assert data[:2] == b"\x83\x75" and data[23] == 0x58, "the label, and the context behind it"
    end = 25 + data[24]
    context = base64.b64encode(data[25:end]).decode()
    made = json.loads(deployment.bao.must(
        "write", "-format=json", "transit/datakey/plaintext/records", f"context={context}", "bits=256"))["data"]["ciphertext"]
    prefix, wrapped = made.rsplit(":", 1)
    assert prefix == "vault:v2"
    raw = base64.b64decode(wrapped)
    return data[:end] + bytes([0x58, len(raw)]) + raw


def test_versions_are_retired_by_the_listing_when_somebody_says_so(life):
    keys = [(bucket, f"record-{index}") for bucket in BUCKETS for index in range(5)]
    for bucket in BUCKETS:
        life.s3.create_bucket(Bucket=bucket)
    for bucket, key in keys:
        life.s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    refused = life.run("key", "census", "records")
    assert refused.returncode == 1 and "--config" in refused.stderr, refused.stderr
    assert versions(life) == {"1": len(BUCKETS)}
    assert "no proof" in life.must("key", "census", "records", *life.config)

    life.must("key", "rotate", "records")
    assert versions(life) == {"1": len(BUCKETS), "2": 0}
    plain = life.run("key", "retire", "records", "--before", "v2", *life.config)
    assert plain.returncode == 1 and "--without-ledger" in plain.stderr, plain.stderr
    alone = retire(life)
    assert alone.returncode == 2 and "--yes" in alone.stderr, alone.stderr
    early = retire(life, "--yes")
    assert early.returncode == 1 and "rewrap" in early.stderr, early.stderr
    assert oldest(life) == 1

    planned = life.json("key", "rewrap", "records", "--dry-run", *life.config)
    assert (planned["moved"], planned["source"]) == (len(BUCKETS), "listing")
    assert versions(life) == {"1": len(BUCKETS), "2": 0}, "nothing was written"
    done = life.json("key", "rewrap", "records", *life.config)
    assert (done["moved"], done["confirmed"], done["failed"]) == (len(BUCKETS), len(BUCKETS), 0)
    again = life.json("key", "rewrap", "records", *life.config)
    assert (again["moved"], again["failed"]) == (0, 0) and again["confirmed"] >= len(BUCKETS)
    assert set(versions(life).items()) >= {("1", 0)}

    victim = next(key for key in entries(life) if key.endswith("/v2") and key.replace("/v2", "/v1") in entries(life))
    good = entry(life, victim)
    life.direct.put_object(Bucket=STATE, Key=victim, Body=b"nothing that opens")
    damaged = life.run("key", "rewrap", "records", *life.config)
    assert damaged.returncode == 1 and "does not" in damaged.stderr, damaged.stderr
    assert retire(life, "--yes").returncode == 1
    mended = life.json("key", "rewrap", "records", "--repair", *life.config)
    assert (mended["mended"], mended["failed"]) == (1, 0)
    assert entry(life, victim) != b"nothing that opens"
    life.direct.put_object(Bucket=STATE, Key=victim, Body=another_key_of(life, good))
    other = retire(life, "--yes")
    assert other.returncode == 1 and "another key" in other.stderr, other.stderr
    life.direct.put_object(Bucket=STATE, Key=victim, Body=good)
    assert oldest(life) == 1

    code, output, errors = retire_at_terminal(life, "yes")
    assert code == 2 and "nothing was retired" in errors, output + errors
    assert oldest(life) == 1
    code, output, errors = retire_at_terminal(life, "records")
    assert code == 0 and "hides" in errors, output + errors
    assert oldest(life) == 2
    assert retire(life, "--yes").returncode == 1, "there is nothing before it any more"
    life.must("maintain", "--once", *life.config)
    counted = life.json("key", "census", "records", "--objects", *BUCKETS, *life.config)
    objects = {version: found["objects"] for version, found in counted["versions"].items()}
    assert objects["1"] == len(keys) == counted["objects"]["listed"], "their envelopes have the old copy, and open by the directory"
    assert f"{len(keys)} objects" in life.must("key", "census", "records", "--objects", *BUCKETS, *life.config)

    life.proxy.terminate()
    life.s3 = life.start_proxy()
    for bucket, key in keys:
        assert life.s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()


def test_a_state_bucket_without_branch_keys_retires_nothing(life):
    life.must("key", "rotate", "records")
    refused = retire(life, "--yes")
    assert refused.returncode == 1 and "lists no branch key" in refused.stderr, refused.stderr
    begun = time.monotonic()
    waited = life.run("key", "retire", "records", "--before", "v2", "--wait-s", "4", "--without-ledger", "--yes", *life.config)
    assert waited.returncode == 1 and "going on in" in waited.stderr and time.monotonic() - begun > 1, waited.stderr
    assert oldest(life) == 1
