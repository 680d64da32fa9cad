"""What a bucket should hold: a map in memory, with the answers that S3 gives from it."""

import random
from dataclasses import dataclass, field

MIB = 1 << 20
PART = 5 * MIB


def content(seed, size):
    """`size` bytes that only `seed` determines."""
    return random.Random(seed).randbytes(size)


@dataclass
class Record:
    """An object: what was written, and what the client said of it. `parts` has the length of each part by its number."""

    body: bytes
    kind: str
    metadata: dict
    etag: str
    parts: dict = field(default_factory=dict)

    @property
    def numbers(self):
        """Its parts' numbers, in order."""
        return sorted(self.parts)


@dataclass
class Upload:
    """An upload under way: `parts` has the newest attempt of each number as (ETag, bytes)."""

    key: str
    id: str
    kind: str
    metadata: dict
    parts: dict = field(default_factory=dict)


def listed(keys, prefix="", delimiter="", after=""):
    """The entries of a listing in order: ("key", name) or ("prefix", name)."""
    entries = []
    for key in sorted(keys, key=lambda key: key.encode()):
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        rest = key[len(prefix):]
        if delimiter and delimiter in rest:
            common = prefix + rest[: rest.index(delimiter) + len(delimiter)]
            if after.startswith(common):
                continue
            if ("prefix", common) not in entries[-1:]:
                entries.append(("prefix", common))
        else:
            entries.append(("key", key))
    return entries


def part_range(record, number):
    """Where part `number` of a record begins and ends."""
    start = sum(length for other, length in record.parts.items() if other < number)
    return start, start + record.parts[number]
