"""Puts the drill together: the world, the load, the faults, and what is looked at in the end."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

import clients
import endpoints
import faults
import network
import scan
import target as targets
import workload
from proxies import Trusted
from records import Records
from servers import Process, clean_environment
from workload import patiently
from zones import PORTS, Zone

PROBLEMS_MAX = 20


class World:
    """Everything that runs, and what can be done to it."""

    def __init__(self, folder):
        self.folder, self.network = folder, network.Network(folder)
        self.zones, self.trusted, self.recorder = {}, None, None

    def start(self):
        recording = network.inside("singapore", sys.executable, str(Path(__file__).with_name("capture.py")), str(self.capture))
        self.recorder = Process("capture", recording, self.folder, clean_environment(self.folder))
        self.recorder.wait_until(lambda: "recording" in self.recorder.log_tail(), "word that it records")
        self.zones = {name: Zone(name, self.folder, self.folder / "deployment/certs" / name) for name in network.ZONES}
        self.trusted = Trusted(self.folder, list(self.zones.values()), self.certify)
        for zone in self.zones.values():
            zone.start("etcd")
        first, *others = self.zones.values()
        first.start_server()
        first.processes["weed"].wait_until(first.has_named_the_store, "name of the store")
        for zone in others:
            zone.start_server()
        threading.Thread(target=self._supervise, daemon=True).start()
        self._until_writes()
        self.trusted.start_all()

    def _supervise(self):
        while True:
            time.sleep(1)
            for zone in self.zones.values():
                zone.supervise()

    @property
    def capture(self):
        return self.folder / "singapore-frames" / "frames"

    def certify(self, trusted):
        """Certificates for the zones' gateways and for PostgreSQL."""
        certs = trusted.dir / "certs"
        for name in (*network.ZONES, "postgres"):
            trusted.must("certificate", f"spiffe://claviger.internal/region/us/custodian/{name}", "--host", name, "--ca-file", certs / "ca.crt",
                         "--ca-key-file", certs / "ca.key", "--out", certs / name)

    def direct(self, zone):
        """A client of a zone's gateway, past the proxies."""
        return targets.s3_client(self.zones[zone].url, Zone.access_key, Zone.secret_key, ca=str(self.trusted.dir / "certs/ca.crt"))

    def _until_writes(self):
        end = time.monotonic() + 120
        for zone in self.zones:
            while not self._writes(zone):
                assert time.monotonic() < end, f"the cluster takes no writes at {zone}; see the logs in {self.folder}"
                time.sleep(0.5)

    def _writes(self, zone):
        try:
            self.direct(zone).create_bucket(Bucket="warm-up")
        except (ClientError, BotoCoreError):
            pass
        try:
            self.direct(zone).put_object(Bucket="warm-up", Key=zone, Body=b"warm")
            return True
        except (ClientError, BotoCoreError):
            return False

    def strike(self, fault):
        """Does it. Gives what mends it, and what else there is to say."""
        host, kind = fault.host, fault.kind
        if kind == "cut off":
            self.network.cut(host)
            return lambda: self.network.heal(host), None
        if kind == "spoil the link of":
            note = self.network.spoil(host)
            return lambda: self.network.mend(host), note
        if kind == "freeze":
            self._signal(host, signal.SIGSTOP)
            return lambda: self._signal(host, signal.SIGCONT), None
        if kind == "kill" and host in self.zones:
            self.zones[host].kill()
        elif kind == "kill":
            self.trusted.process(host).kill()
        elif host in self.zones:
            self.zones[host].end()
        else:
            self.trusted.end(host)
        return lambda: self._start(host), None

    def _processes(self, host):
        return list(self.zones[host].processes.values()) if host in self.zones else [self.trusted.process(host)]

    def _signal(self, host, number):
        for process in self._processes(host):
            os.kill(process.child.pid, number)

    def _start(self, host):
        if host in self.zones:
            self.zones[host].start("etcd")
            self.zones[host].start_server()
        else:
            self.trusted.start(host)

    def stop_recording(self):
        # The kernel hands a block over when it is full, or a moment later.
        time.sleep(1)
        os.kill(self.recorder.child.pid, signal.SIGTERM)
        self.recorder.child.wait(60)
        return dict(word.split("=") for word in self.recorder.log_tail().split() if "=" in word)

    def stop(self):
        if self.trusted is not None:
            self.trusted.kill()
        for zone in self.zones.values():
            zone.kill()
            PORTS[zone.name].forget()
        if self.recorder is not None:
            self.recorder.kill()


class Markers:
    """Texts that turn up nowhere by chance: in contents and metadata, in names, and in what the search has to find."""

    def __init__(self):
        self.secret, self.named, self.control = targets.marker(), targets.marker(), targets.marker()


def carry_out(given, say):
    """The whole drill; gives the report."""
    endpoints.forget_the_user()
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="claviger-drill-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "singapore-frames").mkdir()
    world = World(folder)
    try:
        begun = time.monotonic()
        world.start()
        say(f"everything runs, after {time.monotonic() - begun:.0f} s")
        return _under_load(world, given, say)
    finally:
        world.stop()
        if not given.folder:
            shutil.rmtree(folder, ignore_errors=True)


def _under_load(world, given, say):
    markers = Markers()
    patiently(lambda: world.trusted.client(world.trusted.front_port).create_bucket(Bucket=workload.BUCKET))
    load = applications(world, markers, given)
    drill, begun = faults.Drill(world, load, say), time.monotonic()
    load.start()
    time.sleep(5 if given.short else 20)
    before = len(load.events), sum(event.error is not None for event in load.events)
    say(faults.head())
    for fault in faults.plan(given.seed, given.short):
        if fault.kind != "spoil the link of" or world.network.shaped:
            drill.carry_out(fault)
    time.sleep(max(0, begun + given.minutes * 60 - time.monotonic()))
    load.stop()
    took = time.monotonic() - begun
    found = summary(load, drill, took, before)
    found["servers that gave up and were started anew"] = {zone.name: zone.gave_up for zone in world.zones.values()}
    found["network"] = {"links are spoiled by": world.network.shaped, "dead connections end": "soon" if not world.network.patient else "after 15 minutes"}
    say(f"{found['requests']} requests in {took:.0f} s, {found['errors']} errors ({found['error_rate']:.2%})")
    found |= examine(world, load, markers, say)
    found["problems"] = problems(found)
    return found


def applications(world, markers, given):
    """All of them at the host `clients`, and go by the load balancer."""
    trusted, homes = world.trusted, world.folder / "homes"
    homes.mkdir()
    load = workload.Load(Records(markers.secret), markers.named, lambda: network.enter("clients"))
    for number in range(given.workers):
        load.threads.append(workload.Worker(load, [trusted.client(trusted.front_port)], number, random.Random(f"{given.seed}/{number}")))
    target = workload.target_of(trusted, f"https://{trusted.front_host}:{trusted.front_port}")
    for kind in (clients.Rclone, clients.S3cmd, clients.AwsCli):
        (homes / kind.name).mkdir()
        load.threads.append(workload.Program(load, kind(target, homes / kind.name), random.Random(f"{given.seed}/{kind.name}")))
    return load


def summary(load, drill, took, before):
    events = load.events
    failed = [event for event in events if event.error]
    return {"seconds": round(took), "requests": len(events), "errors": len(failed), "error_rate": round(len(failed) / len(events), 5),
            "kinds": workload.counted(event.error for event in failed), "verbs": workload.by_verb(events),
            "before the first fault": {"requests": before[0], "errors": before[1]}, "faults": drill.reports, "wrong": load.wrong[:PROBLEMS_MAX]}


def examine(world, load, markers, say):
    """What is there in the end, what the logs say, and where which marker lies."""
    lost, read = workload.read_back(world.trusted.client(world.trusted.front_port), load.records)
    say(f"{read} keys read back: {len(lost)} wrong or lost")
    logs = world.trusted.audited()
    # Past the proxies, through Singapore, as nobody should: what the search has to find.
    control = b"".join(markers.control.encode() + os.urandom(200) for _ in range(500))
    patiently(lambda: world.direct("singapore").put_object(Bucket="warm-up", Key="control", Body=control))
    frames = world.stop_recording()
    for process in (*world.trusted.processes.values(), world.trusted.postgres.process):
        process.kill()
    for zone in world.zones.values():
        zone.kill()
    found = {"read_back": read, "lost": lost[:PROBLEMS_MAX], "logs": logs, "frames": {name: int(value) for name, value in frames.items()}}
    found["recorded_bytes"] = world.capture.stat().st_size
    places = {"what travelled to Singapore": world.capture.parent, **{zone.name: zone.data for zone in world.zones.values()}}
    searched = {name: sorted({text for text, _ in scan.places_of(path, markers.secret, markers.named, markers.control)}) for name, path in places.items()}
    words = {markers.secret: "plaintext", markers.named: "names of objects", markers.control: "control"}
    found["searched"] = {name: sorted(words[text] for text in texts) for name, texts in searched.items()}
    for name, what in found["searched"].items():
        say(f"{name}: found {', '.join(what) or 'nothing'}")
    return found


def problems(found):
    """What must not be."""
    texts = [f"wrong: {text}" for text in found["wrong"]] + [f"in the end: {text}" for text in found["lost"]]
    texts += [f"{report['fault']}: errors did not end" for report in found["faults"] if not report["recovered"]]
    texts += [f"{report['fault']}: no read went on" for report in found["faults"] if report["lasted_s"] >= 60 and not report["reads_meanwhile"]]
    texts += [f"audit log {name}: {log['says']}" for name, log in found["logs"].items() if log["exit code"]]
    texts += [f"plaintext: {name}" for name, what in found["searched"].items() if "plaintext" in what]
    # A search that finds nothing proves something only if it finds what is there.
    texts += [f"the search is blind: no names in {name}" for name, what in found["searched"].items() if "names of objects" not in what]
    travelled = "what travelled to Singapore"
    texts += [f"the search is blind: no control in {travelled}"] if "control" not in found["searched"][travelled] else []
    if sum("control" in what for name, what in found["searched"].items() if name != travelled) < 2:
        texts.append("the search is blind: the control object is not in two zones")
    if found["frames"].get("dropped"):
        texts.append(f"{found['frames']['dropped']} frames were not recorded")
    return texts
