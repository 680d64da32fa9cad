"""Custody as its people meet it: sealed and unsealed, disabled, approved by two, killed, and looked over by an auditor."""

import json
import re
import shutil
import time

import pytest
from botocore.exceptions import ClientError

import target as targets
from deployment import Deployment, files_below
from servers import tool


@pytest.fixture(scope="module")
def deployment(weed, tmp_path_factory):
    """Leases of a few seconds, so that their ends can be waited for."""
    folder = tmp_path_factory.mktemp("deployment")
    made = Deployment(folder, (weed.url, weed.access_key, weed.secret_key), read_lease_s=4, write_renew_s=4)
    try:
        made.start_custodian()
        made.must("key", "create", "records")
        made.s3 = made.start_proxy()
        made.s3.create_bucket(Bucket="records")
        made.s3.put_object(Bucket="records", Key="ledger", Body=b"for us alone")
        yield made
        made.stop()
    except BaseException:
        made.kill()
        raise


def _read(deployment, key="ledger"):
    return deployment.s3.get_object(Bucket="records", Key=key)["Body"].read()


def _refusal(deployment, key="ledger"):
    with pytest.raises(ClientError) as refused:
        _read(deployment, key)
    return refused.value.response


def _until_read(deployment, limit_s=30):
    end = time.monotonic() + limit_s
    while True:
        try:
            return _read(deployment)
        except ClientError:
            assert time.monotonic() < end, "it does not recover"
            time.sleep(0.2)


def test_keys_are_administered_over_the_api_and_by_other_peoples_tools(deployment):
    names = json.dumps(deployment.json("key", "list"))
    assert "records" in names
    deployment.must("key", "create", "payroll", "--label", "team=hr")
    shown = deployment.json("key", "show", "payroll")
    assert "hr" in json.dumps(shown)
    deployment.must("key", "rotate", "payroll")
    bao = deployment.run("read", "-format=json", "transit/keys/payroll", program=tool("bao"))
    assert bao.returncode == 0, bao.stderr
    assert json.loads(bao.stdout)["data"]["latest_version"] == 2
    bao = deployment.run("write", "-f", "transit/keys/payroll/rotate", program=tool("bao"))
    assert bao.returncode == 0, bao.stderr
    refused = deployment.run("key", "rotate", "payroll", who="auditor")
    assert refused.returncode == 1 and "denied" in refused.stderr, refused.stderr


def test_a_disabled_kek_is_refused_within_a_second_and_two_others_bring_it_back(deployment):
    assert _read(deployment) == b"for us alone"
    deployment.must("key", "disable", "records")
    time.sleep(1)
    answer = _refusal(deployment)
    assert answer["Error"]["Code"] == "KMS.DisabledException", answer
    proposal = deployment.gated("key", "enable", "records")
    assert deployment.gated("key", "enable", "records") == proposal, "the same call is the same proposal"
    assert deployment.run("approve", proposal).returncode == 1, "who asks may not approve"
    deployment.must("approve", proposal, who="bob")
    assert deployment.gated("key", "enable", "records") == proposal, "one is not enough"
    assert deployment.run("approve", proposal, who="bob").returncode == 1, "nor is the same one twice"
    deployment.must("approve", proposal, who="carol")
    deployment.must("key", "enable", "records")
    assert _until_read(deployment) == b"for us alone"
    deployment.must("key", "disable", "records")
    assert deployment.gated("key", "enable", "records") != proposal, "an approval is good for once"
    again = deployment.gated("key", "enable", "records")
    deployment.must("deny", again, who="bob")
    assert deployment.run("approve", again, who="carol").returncode == 1, "vetoed"
    final = deployment.gated("key", "enable", "records")
    assert final != again
    for who in ("bob", "carol"):
        deployment.must("approve", final, who=who)
    deployment.must("key", "enable", "records")
    assert _until_read(deployment) == b"for us alone"


def test_what_cannot_be_undone_needs_two_others(deployment):
    deployment.must("key", "create", "doomed")
    refused = deployment.run("write", "transit/keys/doomed/config", "deletion_allowed=true", program=tool("bao"))
    assert refused.returncode != 0 and "approval required" in refused.stderr, refused.stderr
    assert deployment.run("delete", "transit/keys/doomed", program=tool("bao")).returncode != 0
    assert "doomed" in json.dumps(deployment.json("key", "list"))


def test_a_killed_custodian_is_missed_when_leases_end_and_recovers(deployment):
    assert _read(deployment) == b"for us alone"
    deployment.custodian.kill()
    assert _read(deployment) == b"for us alone", "what is leased works on"
    time.sleep(5)
    answer = _refusal(deployment)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503, answer
    deployment.start_custodian(unseal=False)
    status = deployment.run("seal-status")
    assert "sealed" in status.stdout, status.stdout
    assert _refusal(deployment)["ResponseMetadata"]["HTTPStatusCode"] == 503
    deployment.unseal()
    assert _until_read(deployment) == b"for us alone"


def test_a_revoked_proxy_reads_nothing_until_two_others_reinstate_it(deployment):
    proxy = "spiffe://claviger.internal/region/us/proxy/proxy-1"
    assert _read(deployment) == b"for us alone"
    deployment.must("revoke", proxy)
    time.sleep(1)
    assert _refusal(deployment)["ResponseMetadata"]["HTTPStatusCode"] in (403, 503)
    proposal = deployment.gated("reinstate", proxy)
    for who in ("bob", "carol"):
        deployment.must("approve", proposal, who=who)
    deployment.must("reinstate", proxy)
    assert _until_read(deployment) == b"for us alone"


def test_the_log_is_whole_until_somebody_changes_it(deployment, tmp_path):
    log, key = deployment.dir / "custodian/audit", deployment.dir / "custodian/audit.vkey"
    deployment.must("audit", "verify", "--log", log, "--key", key)
    shown = deployment.must("audit", "show", "--log", log, "--key", key, "--json", "--action", "disable")
    entries = [json.loads(line)["entry"] for line in shown.splitlines()]
    assert entries and all(entry.get("kek") == "records" for entry in entries)
    own = deployment.must("audit", "show", "--log", log, "--key", key, "--json", "--action", "unwrap", "--limit", "5")
    assert "first-application" in own, "on whose behalf"
    copy = tmp_path / "copy"
    shutil.copytree(log, copy)
    # Narrower bundles of entries stay behind until the widest is full: whichever is read has to be refused.
    tiles = [path for path in files_below(copy) if "entries" in path.parts and b"disable" in path.read_bytes()]
    assert tiles
    for tile in tiles:
        tile.write_bytes(tile.read_bytes().replace(b"disable", b"rotated", 1))
    done = deployment.run("audit", "verify", "--log", copy, "--key", key)
    assert done.returncode == 1, done.stdout + done.stderr


def test_the_proxy_keeps_a_log_of_records_that_verifies(deployment):
    log = deployment.dir / "access-log"
    key = deployment.dir / "access-log.vkey"
    deployment.must("audit", "verify", "--log", log, "--key", key)
    assert "ledger" in deployment.must("audit", "show", "--log", log, "--key", key, "--json", "--limit", "50")


def test_a_witness_cosigns_what_grows_and_notices_a_fork(deployment, tmp_path):
    vkey = deployment.must("audit", "witness-key", "--name", "witness.example/w1", "--out", tmp_path / "witness.key").split()[-1]
    assert "+" in vkey
    log, key = deployment.dir / "custodian/audit", deployment.dir / "custodian/audit.vkey"
    common = ["audit", "witness", "--log-key", key, "--key-file", tmp_path / "witness.key", "--state", tmp_path / "state", "--once"]
    deployment.must(*common, "--log", log)
    older = tmp_path / "older"
    shutil.copytree(log, older)
    deployment.must("key", "rotate", "records")
    time.sleep(6)
    deployment.must(*common, "--log", log)
    done = deployment.run(*common, "--log", older)
    assert done.returncode == 1, f"an older log is refused\n{done.stdout}{done.stderr}"


def test_a_copy_of_store_and_log_tells_no_key_and_no_share(deployment):
    secrets = [re.sub(r"\s", "", share.read_text()).encode() for share in deployment.shares]
    marker = targets.marker()
    deployment.must("key", "create", f"named-{marker}")
    for path in files_below(deployment.dir / "custodian"):
        content = path.read_bytes()
        assert not any(secret[:40] in content for secret in secrets), path
        if path.name.startswith("store.db"):
            assert marker.encode() not in content, path
