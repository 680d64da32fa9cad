"""Other people's tests before a storage server that lies: recorder, proxy, liar, SeaweedFS, one before the other; then once more without the proxy."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import boto3
import suite
from between import trusting
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from liar import Liar
from proxy import Proxy
from recorder import WRONG_MAX, Recorder
from storage import SeaweedFS

# What these send is not HTTP, and stops at the relays.
ASIDE = "headers::"
# Of these, clients get bodies that no proxy looked at.
CONTROL = ("object::test_ranged", "object::test_object_write", "object::test_object_read", "copy", "versioning::", "multipart")
CONTROL_LIES_PERCENT = 80
# Tests end at the first surprise: what they left is read, whole and in ranges, for so many times.
READS = 2000


def carry_out(folder, given, tests):
    """Both runs. Tells whether nobody was deceived, and somebody would have been."""
    (folder / "storage").mkdir(parents=True)
    server = SeaweedFS(folder / "storage")
    try:
        well = through_the_proxy(folder, given, tests, server)
        return blind_without_it(folder, given, tests, server) and well
    finally:
        server.stop()


def through_the_proxy(folder, given, tests, server):
    liar = Liar(server.url, given.adversary, given.lies / 100)
    (folder / "proxy").mkdir()
    front = Proxy(folder / "proxy", SimpleNamespace(url=liar.url, identities=server.identities))
    recorder = None
    try:
        certs = front.deployment.dir / "certs"
        recorder = Recorder(front.url, *trusting(front.ca, certs / "proxy.crt", certs / "proxy.key"))
        liar.begin()
        found = run(f"a liar behind the proxy, seed {given.adversary}", folder / "suite", recorder, given, tests, server, front.identities, front.ca)
        told = liar.told.total()
        read_on(recorder, given, front.identities["main"], front.ca)
        print(f"{READS} further reads, {liar.told.total() - told} lies", flush=True)
        processes = {"the proxy": front.deployment.proxy, "the custodian": front.deployment.custodian}
        fallen = [f"{name} ended with {process.child.poll()}" for name, process in processes.items() if process.child.poll() is not None]
        fallen += [f"{name} panicked" for name, process in processes.items() if "panicked" in process.log.read_text(errors="replace")]
        alarms = front.deployment.proxy.log.read_text(errors="replace").count("ALARM")
    finally:
        front.stop()
        liar.stop()
        if recorder:
            recorder.stop()
    tell(found, liar, recorder)
    print(f"the proxy raised {alarms} alarms", flush=True)
    problems = [*fallen, *(f"wrong: {text}" for text in recorder.wrong[:WRONG_MAX]), *(f"no form of S3's: {text}" for text in recorder.improper[:WRONG_MAX])]
    if not liar.told or not recorder.compared:
        problems.append("no lie was told, or no body was read: that tests nothing")
    for problem in problems:
        print(f"  PROBLEM: {problem}", flush=True)
    return not problems


def blind_without_it(folder, given, tests, server):
    """The control: the same check where clients speak to the liar."""
    liar = Liar(server.url, given.adversary, CONTROL_LIES_PERCENT / 100)
    recorder = Recorder(liar.url)
    try:
        liar.begin()
        chosen = {test for test in tests if test.startswith(CONTROL)} or tests
        found = run("the control: the liar without the proxy", folder / "control", recorder, given, chosen, server, server.identities)
    finally:
        recorder.stop()
        liar.stop()
    tell(found, liar, recorder)
    if not recorder.wrong:
        print("  PROBLEM: the check finds no wrong body where there must be some: it is blind", flush=True)
    return bool(recorder.wrong)


def read_on(recorder, given, identity, ca):
    """What a client gets does not matter here: the recorder looks at it."""
    chance = random.Random(f"{given.adversary}/reads")
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, max_pool_connections=given.processes)
    s3 = boto3.client("s3", endpoint_url=recorder.url, aws_access_key_id=identity.access_key, aws_secret_access_key=identity.secret_key,
                      region_name="us-east-1", verify=str(ca), config=config)
    names = sorted(recorder.written)

    def read(number):
        bucket, key = names[number]
        start = chance.randrange(100_000)
        more = {"Range": f"bytes={start}-{start + chance.randrange(100_000)}"} if chance.random() < 0.3 else {}
        try:
            s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()
        except (ClientError, BotoCoreError):
            pass

    with ThreadPoolExecutor(given.processes) as threads:
        list(threads.map(read, [chance.randrange(len(names)) for _ in range(READS if names else 0)]))


def run(name, folder, recorder, given, tests, server, identities, ca=None):
    print(f"{name}: {len(tests)} tests", flush=True)
    return suite.run(name, folder, recorder.url, identities=identities, lifecycle_day_s=server.lifecycle_day_s, ca=ca, tests=tests, processes=given.processes)


def tell(found, liar, recorder):
    ends = Counter(line["outcome"] for line in found.values())
    told = ", ".join(f"{count} × {kind}" for kind, count in liar.told.most_common())
    errors = ", ".join(f"{count} × {kind}" for kind, count in recorder.errors.most_common(12))
    print(f"tests: {', '.join(f'{count} {outcome}' for outcome, count in ends.most_common())}\n"
          f"{sum(liar.told.values())} lies in {liar.asked} answers: {told}\n"
          f"errors that clients were told: {errors}\n"
          f"{recorder.compared} whole bodies compared and {recorder.begun} that were cut off; {recorder.cut} answers cut off; "
          f"wrong bodies: {len(recorder.wrong)}; errors in no form of S3's: {len(recorder.improper)}", flush=True)
