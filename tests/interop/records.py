"""What applications wrote, and what a read may therefore show.

Each key has one writer, that does one thing after the other. A write that was not acknowledged may have happened or not, and may still
happen: its key is left alone from then on, and may hold what was there or what was to be.
"""

import threading
from typing import NamedTuple


class Value(NamedTuple):
    """The contents that were first written under `origin`; a copy has them, too."""

    origin: str
    version: int
    size: int


class Records:
    """Keys, their contents in the order of the writes, and the last of them that was acknowledged."""

    def __init__(self, marker):
        self.marker = marker
        self.lock = threading.Lock()
        self.known = {}

    def body(self, value):
        """Text with the marker all through it: a piece of it that is a hundred or so bytes long has it whole."""
        line = f"{self.marker} {value.origin} {value.version}|".encode()
        return (line * (value.size // len(line) + 1))[:value.size]

    def begin(self, key, value):
        """A write or, with None, a deletion."""
        with self.lock:
            record = self.known.setdefault(key, Record())
            record.values.append(value)
            record.open = True

    def acknowledge(self, key):
        with self.lock:
            record = self.known[key]
            record.settled, record.open = len(record.values) - 1, False

    def settled(self, key):
        """How far it is now, for `allowed` after a read."""
        with self.lock:
            return self.known[key].settled

    def allowed(self, key, since=None):
        """What a read may have shown that began when `since` was settled; now, if nothing is said."""
        with self.lock:
            record = self.known[key]
            return record.values[record.settled if since is None else since:]

    def usable(self, prefix):
        """Keys below it whose last write was acknowledged."""
        with self.lock:
            return [key for key, record in self.known.items() if key.startswith(prefix) and not record.open]

    def all(self):
        with self.lock:
            return {key: list(record.values[record.settled:]) for key, record in self.known.items()}

    def fits(self, values, data, start=None):
        """Whether `data` (None: there is nothing) is one of the values, or, with `start`, what one of them has from there on."""
        for value in values:
            if value is None or data is None:
                if value is data:
                    return True
                continue
            whole = self.body(value)
            if (data == whole if start is None else whole[start:start + len(data)] == data and data):
                return True
        return False


class Record:
    """`values[settled]` is what was acknowledged last; what follows may be there. At first there is nothing."""

    def __init__(self):
        self.values, self.settled, self.open = [None], 0, False
