"""Puts the soak together: the world, the load, what is measured meanwhile, and what is looked at in the end."""

import random
import shutil
import tempfile
import time
from pathlib import Path

import clients
import endpoints
import load
import target as targets
import workload
from boundaries import Relays
from records import Records
from world import CLIENTS, World

MIB = 1 << 20
WARM_UP_S = 120
SAMPLE_S = 10
# A request under way takes some MiB of a proxy, and all clients together have some ten of them: what a sample has more than another by
# chance is less. A leak of 1 KiB per request would be 35 MiB after 30 minutes of 20 requests a second.
GROWTH_MAX_KIB = 32 << 10
PROBLEMS_MAX = 20
# So many, and none of them, is no chance.
FAULTS_EXPECTED = 20
# On a machine that starves, custodians lose sight of their store by themselves.
ERRORS_MAX = 0.8


class Busy(workload.Worker):
    """As the drill's, and copies, larger uploads, and either proxy by chance."""

    verbs = (*workload.Worker.verbs, "copy", "copy")
    parts_max = 3

    def size(self):
        return self.random.choice((16 * MIB, 5 * MIB)) if self.random.random() < 0.03 else super().size()


class Transfers(workload.Program):
    """boto3's managed transfers: parts at the same time, ranges under conditions, and attempts of its own."""

    def size(self):
        return self.random.choice((1_000, 300_000, 9 * MIB, 18 * MIB))


class Soak:
    """`samples` are (seconds since the beginning, what was taken then)."""

    def __init__(self, given, folder, say):
        self.given, self.say, self.samples = given, say, []
        self.relays = Relays(given.seed)
        self.marker = targets.marker()
        self.world = World(folder, self.relays)
        self.ways = self.world.trusted.ways("flip" in given.control)
        self.s3 = self.world.trusted.client(self.world.trusted.proxy_port)
        workload.patiently(lambda: self.s3.create_bucket(Bucket=workload.BUCKET))
        self.load = self._load(folder / "home")

    def _load(self, home):
        given, trusted = self.given, self.world.trusted
        made = workload.Load(Records(self.marker), "soak")
        urls = [f"https://localhost:{port}" for port in self.ways]
        for number in range(given.workers):
            ways = [load.impatient(url, trusted.credentials(), trusted.dir / "certs/ca.crt", read_timeout=20) for url in urls]
            made.threads.append(Busy(made, ways, number, random.Random(f"{given.seed}/{number}")))
        home.mkdir()
        target = workload.target_of(trusted, urls[0])
        target.s3 = targets.s3_client(target.url, target.access_key, target.secret_key, ca=target.ca)
        made.threads.append(Transfers(made, clients.Boto3(target, home), random.Random(f"{given.seed}/transfers")))
        return made

    def carry_out(self):
        """Gives the report."""
        self.begun = time.monotonic()
        self.sample()
        self.relays.rate = self.given.rate / 100
        self.load.start()
        lasts_s = self.given.minutes * 60
        broken = []
        while not broken and (left := self.begun + lasts_s - time.monotonic()) > 0:
            time.sleep(min(SAMPLE_S, left))
            broken = self.world.broken()
            if not broken:
                self.sample()
                self.tell()
        self.relays.end_faults()
        self.load.stop()
        return self.report(broken)

    def sample(self):
        self.samples.append((time.monotonic() - self.begun, self.world.sample()))

    def tell(self):
        events = self.load.events
        failed = sum(event.error is not None for event in events)
        faults = ", ".join(f"{sum(boundary.injected.values())} {name}" for name, boundary in self.relays.boundaries.items())
        at, taken = self.samples[-1]
        memory = "+".join(f"{taken['processes'][name]['memory_kib'] // 1024}" for name in ("proxy-1", "proxy-2"))
        self.say(f"{at:6.0f} s: {len(events)} operations, {failed} errors, {len(self.load.wrong)} wrong; faults: {faults}; proxies {memory} MiB")

    def report(self, broken):
        events, lost, read, logs = list(self.load.events), [], 0, {}
        if not broken:
            if "loss" in self.given.control:
                self.say(f"taken away behind everybody's back: {self.take_away()}")
            lost, read = workload.read_back(self.s3, self.load.records)
            logs = self.world.trusted.audited()
            broken = self.world.broken()
        found = {
            "minutes": round((time.monotonic() - self.begun) / 60, 1), "rate": self.given.rate, "seed": self.given.seed, "program": self.world.trusted.binary.parent.name,
            "operations": len(events), "errors": sum(event.error is not None for event in events), "verbs": workload.by_verb(events),
            "kinds": workload.counted(event.error for event in events if event.error), "boundaries": self.relays.report(),
            "longest_s": round(max((event.ended - event.begun for event in events), default=0), 1),
            "wrong": len(self.load.wrong), "read_back": read, "lost": len(lost), "logs": logs, **self.measured(),
        }
        found["problems"] = [*broken, *self.load.wrong[:PROBLEMS_MAX], *(f"in the end: {text}" for text in lost[:PROBLEMS_MAX]), *problems(found)]
        return found

    def take_away(self):
        """What a storage server may lose: an acknowledged write."""
        key = next((key for key, values in self.load.records.all().items() if len(values) == 1 and values[0] is not None), None)
        if key is None:
            return "nothing, for no write was acknowledged"
        storage = self.world.storage
        targets.s3_client(storage.url, storage.access_key, storage.secret_key).delete_object(Bucket=workload.BUCKET, Key=key)
        return key

    def measured(self):
        """Each process at the start, after the warm-up and at the end, and what the proxies grew by."""
        warm = next((index for index, (at, _) in enumerate(self.samples) if at >= self.warm_up_s), len(self.samples) - 1)
        moments = {"start": self.samples[0][1], "warm": self.samples[warm][1], "end": self.samples[-1][1]}
        processes = {name: {moment: taken["processes"][name] for moment, taken in moments.items()} for name in moments["end"]["processes"]}
        cache = {name: {moment: taken["key cache"][name] for moment, taken in moments.items()} for name in moments["end"]["key cache"]}
        return {"warm_up_s": self.warm_up_s, "processes": processes, "key cache": cache, "samples": self.samples,
                "growth_kib": {name: grown(self.samples[warm:], name) for name in ("proxy-1", "proxy-2")}}

    @property
    def warm_up_s(self):
        return min(WARM_UP_S, self.given.minutes * 60 / 3)


def grown(samples, name):
    """From the most of a minute to the least of the last one: what is not there by chance."""
    memory = [taken["processes"][name]["memory_kib"] for _, taken in samples]
    few = min(6, max(1, len(memory) // 2))
    return min(memory[-few:]) - max(memory[:few])


def problems(found):
    """What must not be, beside wrong bytes and lost writes."""
    texts = [f"{name} grew by {grown_kib >> 10} MiB after the warm-up" for name, grown_kib in found["growth_kib"].items() if grown_kib > GROWTH_MAX_KIB]
    texts += [f"audit log {name}: {log['says']}" for name, log in found["logs"].items() if log["exit code"]]
    if found["errors"] >= found["operations"] * ERRORS_MAX:
        texts.append("most operations failed: that soaks nothing")
    texts += [f"nothing went wrong at {name}: that soaks nothing" for name, boundary in found["boundaries"].items()
              if boundary["exchanges"] * found["rate"] / 100 > FAULTS_EXPECTED and not sum(boundary["faults"].values())]
    return texts


def carry_out(given, say):
    """The whole soak; gives the report."""
    endpoints.forget_the_user()
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="claviger-soak-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    soak = None
    try:
        soak = Soak(given, folder, say)
        return soak.carry_out()
    finally:
        if soak is not None:
            soak.world.stop()
        if not given.folder:
            shutil.rmtree(folder, ignore_errors=True)


def lines(found):
    """The report for people."""
    yield (f"{found['minutes']} minutes with the {found['program']} build, {found['rate']} % of the exchanges at each boundary, seed {found['seed']}: "
           f"{found['operations']} operations, {found['errors']} errors ({found['errors'] / max(1, found['operations']):.2%}); the longest took {found['longest_s']} s")
    yield f"{'operation':<14}{'requests':>10}{'errors':>8}"
    for verb, counts in found["verbs"].items():
        yield f"{verb:<14}{counts['requests']:>10}{counts['errors']:>8}"
    yield "as clients saw them: " + (", ".join(f"{count} × {kind}" for kind, count in found["kinds"].items()) or "no errors")
    kinds = list(dict.fromkeys(kind for boundary in found["boundaries"].values() for kind in boundary["faults"]))
    yield f"{'boundary':<20}{'exchanges':>10}" + "".join(f"{kind:>14}" for kind in kinds)
    for name, boundary in found["boundaries"].items():
        yield f"{name:<20}{boundary['exchanges']:>10}" + "".join(f"{boundary['faults'].get(kind, '–'):>14}" for kind in kinds)
    yield f"{'process':<14}{'memory MiB':>20}{'descriptors':>20}{'threads':>20}   (start, after {found['warm_up_s']:.0f} s, end)"
    for name, moments in found["processes"].items():
        cells = ("/".join(str(taken[what] >> 10 if what == "memory_kib" else taken[what]) for taken in moments.values()) for what in ("memory_kib", "descriptors", "threads"))
        yield f"{name:<14}" + "".join(f"{cell:>20}" for cell in cells)
    for name, moments in found["key cache"].items():
        yield f"key cache of {name}: " + "; ".join(f"{moment} " + ", ".join(f"{count} {kind}" for kind, count in of.items()) for moment, of in moments.items())
    yield "the proxies grew by " + ", ".join(f"{grown_kib / 1024:.1f} MiB" for grown_kib in found["growth_kib"].values()) + f"; {GROWTH_MAX_KIB >> 10} are allowed"
    yield f"wrong bytes: {found['wrong']}; {found['read_back']} keys read back, acknowledged writes lost: {found['lost']}"
