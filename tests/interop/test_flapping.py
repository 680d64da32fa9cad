"""A storage region that comes and goes: two addresses of one cluster, and a replica elsewhere."""

import random
import time
import urllib.request

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client.parser import text_string_to_metric_families

import endpoints
import load
import target as targets
from deployment import Deployment
from relay import Relay
from servers import free_ports
from sites import synchronized

pytestmark = pytest.mark.waits

FLAPS_S = 20
KEPT = {f"kept/{number}": targets.marker().encode() * (1 + 4000 * (number % 3)) for number in range(6)}


class Flapping(Deployment):
    """With metrics, which count what storage servers are asked."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.metrics_port, = free_ports(1)
        self.edit("proxy.toml", r"# \[metrics\]\n# listen = .*", f'[metrics]\nlisten = "127.0.0.1:{self.metrics_port}"')

    def storage_calls(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return sum(sample.value for family in families for sample in family.samples
                   if sample.name == "claviger_storage_call_duration_seconds_count")


class Reads(load.Application):
    """Reads what both sites have. What it could not read stands in `errors`."""

    def run(self):
        s3 = self.connect()
        while not self.stopped.is_set():
            key = random.choice(list(KEPT))
            try:
                if s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() != KEPT[key]:
                    self.wrong.append(key)
                self.acknowledged[self.done] = b""
            except (BotoCoreError, ClientError) as error:
                self.errors.append((time.monotonic(), repr(error)))
            self.done += 1
            time.sleep(0.02)


@pytest.fixture
def region(weed, tmp_path):
    """A deployment before two ways to one storage server, and a replica."""
    (tmp_path / "replica").mkdir()
    replica, deployment = endpoints.seaweedfs(tmp_path / "replica"), None
    try:
        ways = [Relay(int(weed.url.rpartition(":")[2])) for _ in range(2)]
        deployment = Flapping(tmp_path, (weed.url, weed.access_key, weed.secret_key))
        (deployment.dir / "secrets/replica.key").write_text(replica.secret_key)
        (deployment.dir / "secrets/replica.key").chmod(0o600)
        urls = ", ".join(f'"http://127.0.0.1:{way.port}"' for way in ways)
        deployment.edit("proxy.toml", rf'(?m)^url = "{weed.url}"$', f"urls = [{urls}]")
        deployment.edit("proxy.toml", r'state_bucket = ".*"', 'state_bucket = "flapping-state"')
        deployment.edit("proxy.toml", r"copy_limit_bytes = .*\n", "answer_timeout_s = 2\n[storage.replica]\n"
                        f'url = "{replica.url}"\naccess_key = "{replica.access_key}"\nsecret_key_file = "secrets/replica.key"\n')
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        deployment.start_proxy()
        deployment.connect = lambda: load.impatient(f"https://localhost:{deployment.proxy_port}", deployment.credentials(),
                                                    deployment.dir / "certs/ca.crt")
        deployment.connect().create_bucket(Bucket="flapping")
        for key, body in KEPT.items():
            deployment.connect().put_object(Bucket="flapping", Key=key, Body=body)
        synchronized(tmp_path, weed, replica, "flapping", "flapping-state")
        yield deployment, ways
    finally:
        if deployment is not None:
            deployment.kill()
        replica.stop()


def test_a_region_that_comes_and_goes_costs_errors_and_no_wrong_byte(region):
    deployment, ways = region
    reads, writes = Reads("flapping", "reads", deployment.connect), load.Application("flapping", "writes", deployment.connect)
    before, random_s = deployment.storage_calls(), random.Random(7)
    with load.Load(reads, writes) as applications:
        ends = time.monotonic() + FLAPS_S
        while time.monotonic() < ends:
            for way in ways:
                way.down()
            time.sleep(random_s.uniform(0.5, 1.5))
            for way in ways:
                way.up()
            time.sleep(random_s.uniform(0.5, 1.5))
        over = time.monotonic()
        # An address that failed is looked at after 1 s, then ever more rarely, every 30 s at last.
        applications.is_well_within(35)
        recovered = time.monotonic() - over
    calls = deployment.storage_calls() - before
    print(f"{reads.done} reads ({len(reads.errors)} failed), {writes.done} writes and reads ({len(writes.errors)} failed), "
          f"{calls} requests to storage servers; well again after {recovered:.1f} s")
    assert len(reads.acknowledged) > 10 * len(reads.errors), "the replica has them: only what was cut off under way may fail"
    assert writes.errors, "the region was away"
    # At most three attempts of each request of ours, of which a write has one or two (and a read of an unknown object, and a replica's).
    assert calls < 8 * applications.done, "retries are bounded"
    load.Load(writes).all_there(deployment.connect())
