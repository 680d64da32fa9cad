"""The memory of a process as the machine's administrator can read it, and the search in it for secrets that are known and for AES keys that are not."""

import base64
import contextlib
import os
import re
import signal
import time


PAGE = 4096
ZEROS = bytes(PAGE)


class NotAllowed(AssertionError):
    """This user cannot read the memory of processes that are closed to debuggers."""


@contextlib.contextmanager
def _held(pid):
    """The process stands still meanwhile, so that nothing moves between two looks."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while _state(pid) not in "Tt":
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _state(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return stat.read().rpartition(")")[2].split()[0]


class Memory:
    """A copy of all that a process can write to: heaps, stacks and the data of its program, as `(name, address, bytes)`."""

    def __init__(self, pid):
        self.regions = []
        try:
            with _held(pid), open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
                for line in maps:
                    span, permissions, _, _, _, *name = line.split(maxsplit=5)
                    if permissions.startswith("rw"):
                        start, end = (int(bound, 16) for bound in span.split("-"))
                        self._take(memory, "".join(name).strip() or "heap", start, end)
        except PermissionError as refused:
            raise NotAllowed(
                "the memory of proxy and custodian is closed to this user; run this test as root, or with CAP_SYS_PTRACE") from refused
        assert self.regions, f"process {pid} has no memory to search"

    def _take(self, memory, name, start, end):
        """The runs of pages that hold anything at all: most of a stack was never used."""
        run, at = bytearray(), start
        while at < end:
            memory.seek(at)
            piece = memory.read(min(end - at, 1 << 20))
            if not piece:
                break
            for page in (piece[offset:offset + PAGE] for offset in range(0, len(piece), PAGE)):
                if page == ZEROS[:len(page)]:
                    self._keep(name, at, run)
                    run = bytearray()
                else:
                    run += page
                at += len(page)
        self._keep(name, at, run)

    def _keep(self, name, end, run):
        if run:
            self.regions.append((name, end - len(run), bytes(run)))

    def __len__(self):
        return sum(len(content) for _, _, content in self.regions)

    def places(self, secret):
        """Where `secret` lies in any of its forms, as `form at name+offset`."""
        return [f"{form} at {name} {start + at:#x}" for form, sought in forms(secret).items()
                for name, start, content in self.regions for at in _all(content, sought)]

    def around(self, secret, reach=48):
        """What lies around each place of `secret` as it is, for whoever has to find out how it got there."""
        return [(name, content[max(0, at - reach):at + len(secret) + reach])
                for name, _, content in self.regions for at in _all(content, secret)]

    def aes_keys(self):
        """The keys of all AES-128 and AES-256 key schedules (FIPS 197, section 5.2) in it, and where the schedules lie."""
        found = {}
        for name, start, content in self.regions:
            for words, rounds in ((4, 10), (8, 14)):
                for at in _candidates(content, words):
                    length = 16 * (rounds + 1)
                    if at >= 0 and content[at:at + length] == expanded(content[at:at + 4 * words]):
                        found.setdefault(content[at:at + 4 * words], []).append(f"{name} {start + at:#x}")
        return found


def forms(secret):
    """`secret` as it is, as little-endian number (how libraries keep a private scalar), as a key within HMAC (RFC 2104), as hex, and as base64 at each alignment."""
    found = {"bytes": secret, "reversed": secret[::-1], "inner pad": bytes(byte ^ 0x36 for byte in secret),
             "outer pad": bytes(byte ^ 0x5c for byte in secret), "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode()}
    for lead in range(3):
        encoded = base64.b64encode(bytes(lead) + secret)
        # Only the characters that depend on the secret alone.
        encoded = encoded[-(-lead * 8 // 6):(lead + len(secret)) * 8 // 6]
        found[f"base64+{lead}"] = encoded
        found[f"base64url+{lead}"] = encoded.replace(b"+", b"-").replace(b"/", b"_")
    seen = {}
    return {form: seen.setdefault(sought, sought) for form, sought in found.items() if sought not in seen}


def _all(content, sought):
    at = content.find(sought)
    while at >= 0:
        yield at
        at = content.find(sought, at + 1)


def _candidates(content, words):
    """Where the linear part of the key expansion holds: of eight or four words each, three are the XOR of the word before and the one a key before.

    All of the region at once: as one large number, an XOR with itself moved by some words.
    """
    number = int.from_bytes(content, "little")
    neighbours = number ^ (number >> 32)
    rest = (neighbours >> 32 * words) ^ (number >> 32)
    rest = rest.to_bytes(len(content), "little")
    # Three words that come out as zero, and of the fourth hardly a byte; long runs are where there is nothing.
    runs = (match.span() for match in re.finditer(rb"\0{12,}", rest))
    return [at for start, end in runs if end - start < 24 for at in range(start, end - 11) if _goes_on(content, at, 4 * words)]


def _goes_on(content, at, length):
    """Whether the first word after the key is what the expansion makes of it: all else takes longer to find out."""
    first, last, next_ = (content[start:start + 4] for start in (at, at + length - 4, at + length))
    made = (last[1:] + last[:1]).translate(S_BOX)
    return len(next_) == 4 and bytes(one ^ other for one, other in zip(made, first)) == bytes([next_[0] ^ 1]) + next_[1:]


def _s_box():
    def times(one, other):
        product = 0
        while other:
            product ^= one * (other & 1)
            one = (one << 1) ^ (0x11b * (one >> 7))
            other >>= 1
        return product

    box = []
    for byte in range(256):
        inverse = next((other for other in range(256) if times(byte, other) == 1), 0)
        box.append(0x63 ^ inverse ^ _turned(inverse, 1) ^ _turned(inverse, 2) ^ _turned(inverse, 3) ^ _turned(inverse, 4))
    return bytes(box)


def _turned(byte, by):
    return (byte << by | byte >> 8 - by) & 0xff


S_BOX = _s_box()


def expanded(key):
    """The key schedule of an AES key of 16 or 32 bytes."""
    words = len(key) // 4
    schedule = [key[at:at + 4] for at in range(0, len(key), 4)]
    constant = 1
    while len(schedule) < 4 * (words + 7):
        word = schedule[-1]
        if len(schedule) % words == 0:
            word = (word[1:] + word[:1]).translate(S_BOX)
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = (constant << 1) ^ (0x11b * (constant >> 7))
        elif words == 8 and len(schedule) % words == 4:
            word = word.translate(S_BOX)
        schedule.append(bytes(one ^ other for one, other in zip(word, schedule[-words])))
    return b"".join(schedule)
