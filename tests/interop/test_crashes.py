"""Jobs as processes of their own that are killed with SIGKILL again and again, and run again until they end."""

import concurrent.futures
import hashlib
import json
import subprocess
import time

import pytest

import target as targets
from deployment import Deployment

OBJECTS = 150
STATE = "crashes-state"
# How long an undisturbed run takes, slowed down. A job writes a checkpoint every 5 s.
RUN_S = 8


@pytest.fixture
def deployment(weed, tmp_path):
    made = Deployment(tmp_path, (weed.url, weed.access_key, weed.secret_key))
    made.edit("proxy.toml", r'state_bucket = ".*"', f'state_bucket = "{STATE}"')
    made.edit("proxy.toml", r"(?m)^\[default_bucket\]$", '[default_bucket]\nunencrypted = "migrate"')
    made.config = ["--config", made.dir / "proxy.toml"]
    try:
        made.start_custodian()
        made.must("key", "create", "records")
        made.s3 = made.start_proxy()
        yield made
        made.stop()
    except BaseException:
        made.kill()
        raise


def body(key):
    """What an object holds follows from its key."""
    seed = hashlib.sha256(key.encode()).digest()
    return (seed * 160)[:1 + int.from_bytes(seed[:2]) % 5000]


def each(keys, work):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, keys))


def filled(s3, bucket):
    s3.create_bucket(Bucket=bucket)
    keys = [f"{index:04}" for index in range(OBJECTS)]
    each(keys, lambda key: s3.put_object(Bucket=bucket, Key=key, Body=body(key)))
    return keys


def assert_readable(s3, bucket, keys):
    wrong = [key for key, right in zip(keys, each(keys, lambda key: read(s3, bucket, key) == body(key))) if not right]
    assert not wrong, (bucket, wrong[:3])


def read(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def etags(direct, bucket):
    """What the storage server has: another ETag is another object."""
    return {entry["Key"]: entry["ETag"] for entry in direct.list_objects_v2(Bucket=bucket)["Contents"]}


def killed(deployment, arguments, moments, look):
    """Runs a job and kills it at each of `moments`: after so many seconds, or once that gives something true. Gives what `look` saw."""
    seen = []
    for moment in moments:
        process = subprocess.Popen([deployment.binary, *arguments], cwd=deployment.home, env=deployment.environment(),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + (60 if callable(moment) else moment)
        while time.monotonic() < end and process.poll() is None and not (callable(moment) and moment()):
            time.sleep(0.05)
        early = process.poll()
        process.kill()
        _, errors = process.communicate(timeout=30)
        assert early is None, f"it was over at {moment}, with {early}: {errors}"
        seen.append(look())
    return seen


def report(deployment, *arguments):
    return json.loads(deployment.must(*arguments, "--json").splitlines()[-1])


def checkpoints(direct, job):
    return [entry["Key"] for entry in direct.list_objects_v2(Bucket=STATE, Prefix=f"job/{job}/").get("Contents", [])]


def resumed(deployment, job, bucket, direct, keys, look):
    """A job with checkpoints: killed at once, late, and on its second way."""
    alone = report(deployment, job, bucket, *deployment.config)
    assert alone["done"] == OBJECTS and "resumed" not in alone, alone
    slowly = [job, bucket, *deployment.config, "--max-requests-s", str(max(1, alone["requests"] // RUN_S)), "--concurrency", "2"]
    seen = killed(deployment, slowly, (0.4, 1.5, lambda: checkpoints(direct, job), 0.8), look)
    ended = report(deployment, *slowly)
    assert ended["complete"] and ended["done"] == OBJECTS and ended["failed"] == 0, ended
    after = ended["resumed"]["after"]
    spared = sum(key <= after for key in keys)
    assert 0 < spared < OBJECTS, ended
    # Each object costs a request or more; the checkpoint itself costs some.
    assert ended["requests"] < alone["requests"] - spared + 10, (ended, alone)
    assert not checkpoints(direct, job), "it is gone in the end"
    return seen, after


def verify(deployment, direct):
    keys = filled(deployment.s3, "verified")
    resumed(deployment, "verify", "verified", direct, keys, lambda: None)


def re_encrypt(deployment, direct):
    bucket = "renewed"
    keys = filled(deployment.s3, bucket)
    first = etags(direct, bucket)
    seen, after = resumed(deployment, "re-encrypt", bucket, direct, keys, lambda: etags(direct, bucket))
    last = etags(direct, bucket)
    assert all(first[key] != last[key] for key in keys)
    # What the checkpoint spoke of was not treated again.
    assert all(seen[-1][key] == last[key] for key in keys if key <= after)
    assert_readable(deployment.s3, bucket, keys)


def migrate(deployment, direct):
    bucket = "migrated"
    keys = filled(direct, bucket)
    first = etags(direct, bucket)
    deployment.must("migrate", bucket, "--begin", "--manifest-only", *deployment.config)

    def encrypted(found):
        return sum(first[key] != found[key] for key in keys)

    def reaches(count):
        return lambda: encrypted(etags(direct, bucket)) >= count

    slowly = ["migrate", bucket, *deployment.config, "--max-requests-s", "100", "--concurrency", "2"]
    moments = (0.4, reaches(1), reaches(OBJECTS // 3), reaches(OBJECTS // 2))
    seen = killed(deployment, slowly, moments, lambda: etags(direct, bucket))
    assert encrypted(seen[-1]) >= OBJECTS // 2
    assert_readable(deployment.s3, bucket, keys[::4])
    ended = report(deployment, "migrate", bucket, *deployment.config)
    assert ended["complete"] and ended["failed"] == 0, ended
    last = etags(direct, bucket)
    assert all(first[key] != last[key] for key in keys), "nothing is left in the clear"
    # What was encrypted stays as it is.
    for some in seen:
        assert all(some[key] == last[key] for key in keys if some[key] != first[key])
    assert_readable(deployment.s3, bucket, keys)


def test_jobs_that_are_killed_lose_nothing_and_go_on_where_they_were(deployment, weed):
    """All at once, since what each of them does is mostly to wait."""
    direct = targets.s3_client(weed.url, weed.access_key, weed.secret_key)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for job in [pool.submit(work, deployment, direct) for work in (verify, re_encrypt, migrate)]:
            job.result(timeout=120)
    for bucket in ("verified", "renewed", "migrated"):
        found = report(deployment, "verify", bucket, *deployment.config)
        assert found["complete"] and found["done"] == OBJECTS and found["failed"] == 0, found
