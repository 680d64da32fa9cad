"""What is done to each process in turn, and what the applications noticed of it."""

import random
import time
from dataclasses import dataclass

import network
import workload

# Without an error for so long, and with successes of both kinds, all is well again.
QUIET_S = 5
RECOVERY_MAX_S = 120
LONG_CUT_S = 100
READS = ("get", "range", "head", "list", "look around")


@dataclass
class Fault:
    """`hold_s` is how long it lasts before it is mended."""

    host: str
    kind: str
    hold_s: float

    @property
    def name(self):
        return f"{self.kind} {self.host}"


def plan(seed, short):
    """Every process killed, cut off and restarted, in an order of the seed's; or a few of these."""
    if short:
        return [Fault("proxy-1", "kill", 2), Fault("custodian-1", "kill", 2), Fault("proxy-2", "cut off", 5), Fault("singapore", "kill", 3)]
    hosts = [host for host in network.HOSTS if host != "clients"]
    made = [Fault(host, kind, hold_s) for host in hosts for kind, hold_s in (("kill", 4), ("cut off", 12 if host in network.ZONES else 8), ("restart", 0))
            if (host, kind) != ("virginia", "cut off")]
    made += [Fault("singapore", "freeze", 6), Fault("proxy-2", "freeze", 6), Fault("custodian-2", "freeze", 6), Fault("proxy-1", "spoil the link of", 10)]
    random.Random(seed).shuffle(made)
    # The worked example: Virginia is gone for long enough that the cluster notices.
    return [Fault("virginia", "cut off", LONG_CUT_S), *made]


class Drill:
    """`world` does to hosts what a fault says; see `run`'s World."""

    def __init__(self, world, load, say):
        self.world, self.load, self.say, self.reports = world, load, say, []

    def carry_out(self, fault):
        begun = time.monotonic()
        undo, note = self.world.strike(fault)
        time.sleep(fault.hold_s)
        struck = time.monotonic()
        undo()
        mended = time.monotonic()
        recovered = self._wait(mended)
        report = self._report(fault, begun, struck, mended, recovered)
        report["note"] = note
        self.reports.append(report)
        self.say(line(report))

    def _wait(self, since):
        """Until it has been quiet, or there is no more hope."""
        while time.monotonic() < since + RECOVERY_MAX_S:
            time.sleep(0.5)
            now = time.monotonic()
            lately = [event for event in list(self.load.events) if event.ended > max(now - QUIET_S, since)]
            good = {is_read(event) for event in lately if event.error is None}
            if now - since >= QUIET_S and good == {True, False} and all(event.error is None for event in lately):
                return True
        return False

    def _report(self, fault, begun, struck, mended, recovered):
        now = time.monotonic()
        seen = [event for event in list(self.load.events) if begun < event.ended <= now]
        failed = [event for event in seen if event.error]
        during = [event for event in seen if event.begun >= begun and event.ended <= struck and event.error is None]
        return {
            "fault": fault.name, "lasted_s": round(struck - begun, 1), "mending_s": round(mended - struck, 1), "requests": len(seen), "errors": len(failed),
            "error_rate": round(len(failed) / len(seen), 4) if seen else None, "kinds": workload.counted(event.error for event in failed),
            "errors_until_s": round(max((event.ended for event in failed), default=begun) - begun, 1),
            "recovery_s": round(max(0.0, max((event.ended for event in failed), default=begun) - struck), 1), "recovered": recovered,
            "longest_s": round(max((event.ended - event.begun for event in seen), default=0), 1),
            "reads_stopped_s": gap(seen, begun, now, True), "writes_stopped_s": gap(seen, begun, now, False),
            "reads_meanwhile": sum(map(is_read, during)), "writes_meanwhile": sum(not is_read(event) for event in during),
        }


def is_read(event):
    return event.verb in READS


def gap(events, begun, ended, reads):
    """The longest time in which no read, or no write, of anybody's succeeded."""
    times = sorted(event.ended for event in events if event.error is None and is_read(event) == reads)
    marks = [begun, *times, ended]
    return round(max(later - earlier for earlier, later in zip(marks, marks[1:])), 1)


COLUMNS = (("fault", "fault", 26), ("lasted_s", "lasted", 7), ("requests", "requests", 9), ("errors", "errors", 7), ("recovery_s", "recovery", 9),
           ("longest_s", "longest", 8), ("reads_stopped_s", "no reads", 9), ("writes_stopped_s", "no writes", 10))


def head():
    return "".join(title.ljust(width) if width > 20 else title.rjust(width) for _, title, width in COLUMNS)


def line(report):
    cells = "".join(str(report[key]).ljust(width) if width > 20 else str(report[key]).rjust(width) for key, _, width in COLUMNS)
    kinds = ", ".join(f"{count} × {kind}" for kind, count in report["kinds"].items())
    return cells + (f"  {kinds}" if kinds else "") + ("" if report["recovered"] else "  NO RECOVERY")
