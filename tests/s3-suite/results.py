"""The results of whole runs, as they are stored, and the reasons for what differs.

results/SERVER.txt has a heading and a line per test: how it ended directly, how through the proxy, its name; `http` stands for a
test that passes through the proxy over HTTP, as it does directly, and not over TLS. reasons.txt has blocks: `[KIND] reason` and
below it, indented, the tests it explains, by name or with `*`, for one server if that stands before.
"""

import fnmatch
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
KINDS = {
    "aside": "set aside by name",
    "encryption": "what encryption makes impossible",
    "server": "what the storage server does",
    "design": "what the proxy does on purpose",
    "open": "not right yet",
}
OUTCOMES = ("passed", "failed", "skipped", "http", "not-run")


class Mistake(Exception):
    """A file that cannot be read, or a reason that explains nothing."""


@dataclass
class Results:
    """One server's results; `tests` has (directly, through the proxy) by name."""

    server: str
    heading: str
    tests: dict = field(default_factory=dict)

    def passes(self, way):
        return {name for name, pair in self.tests.items() if pair[way] == "passed"}

    def both(self):
        """What passes directly and through the proxy."""
        return self.passes(0) & self.passes(1)

    def plain(self):
        """What passes directly, and through the proxy over HTTP alone."""
        return sorted(name for name, pair in self.tests.items() if pair == ("passed", "http"))

    def differing(self):
        """What passes directly and not through the proxy."""
        return sorted(name for name, pair in self.tests.items() if pair[0] == "passed" and pair[1] in ("failed", "skipped"))

    def gained(self):
        return sorted(name for name, pair in self.tests.items() if pair[1] == "passed" and pair[0] in ("failed", "skipped"))


@dataclass
class Reason:
    """Why tests differ: `patterns` are (server or None, pattern)."""

    kind: str
    text: str
    line: int
    patterns: list = field(default_factory=list)

    def explains(self, server, test):
        return any(where in (None, server) and fnmatch.fnmatchcase(test, pattern) for where, pattern in self.patterns)


def path(server):
    return HERE / "results" / f"{server}.txt"


def load(server):
    """What is stored for a server, or None."""
    if not path(server).exists():
        return None
    heading, *lines = path(server).read_text(encoding="utf-8").splitlines()
    tests = {}
    for number, line in enumerate(lines, 2):
        words = line.split(" ", 2)
        if len(words) != 3 or not set(words[:2]) <= set(OUTCOMES):
            raise Mistake(f"{path(server)}:{number}: not two outcomes and a test")
        tests[words[2]] = (words[0], words[1])
    return Results(server, heading.removeprefix("# "), tests)


def store(results):
    path(results.server).parent.mkdir(exist_ok=True)
    lines = [f"{direct} {through} {name}\n" for name, (direct, through) in sorted(results.tests.items())]
    path(results.server).write_text(f"# {results.heading}\n" + "".join(lines), encoding="utf-8")


def reasons():
    """All of reasons.txt."""
    found, file = [], HERE / "reasons.txt"
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{file}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            kind, _, text = line.partition("] ")
            if kind[:1] != "[" or kind[1:] not in KINDS or not text:
                raise Mistake(f"{where}: expected [KIND] and a reason; the kinds are {', '.join(KINDS)}")
            found.append(Reason(kind[1:], text, number))
        elif not found:
            raise Mistake(f"{where}: a test without a reason above it")
        else:
            server, colon, pattern = line.strip().rpartition(": ")
            found[-1].patterns.append((server if colon else None, pattern))
    return found


def explain(results, known):
    """The differing tests of one server by reason, and those that have none."""
    explained, left = {}, []
    for test in results.differing():
        reason = next((one for one in known if one.explains(results.server, test)), None)
        if reason is None:
            left.append(test)
        else:
            explained.setdefault(reason.line, []).append(test)
    return explained, left


def unused(known, stored):
    """Patterns that explain nothing in any of the stored results: (reason, pattern)."""
    differing = [(one.server, test) for one in stored for test in one.differing()]
    gone = []
    for reason in known:
        for where, pattern in reason.patterns:
            if not any(where in (None, server) and fnmatch.fnmatchcase(test, pattern) for server, test in differing):
                gone.append((reason, pattern))
    return gone
