"""The storage server's operator at work: a relay before it that lies in a share of the answers that carry an object, and, less often, a write's ETag."""

import random
import re
from collections import Counter
from dataclasses import dataclass

from between import Between

ENVELOPE = "x-amz-meta-claviger"
SEGMENT = (64 << 10) + 28
# What is remembered to be shown in other places.
KEPT_MAX_BYTES, KEPT_EACH_MAX_BYTES = 256 << 20, 8 << 20
# Queries of a GET that still is one of an object.
PLAIN = {"versionId", "partNumber", "x-id"}


@dataclass
class Stored:
    """An object as it once was: what a complete older version, or another object, looks like."""

    headers: list
    body: bytes


def asks_for_object(request):
    return request.method in ("GET", "HEAD") and request.key != "" and set(request.query) <= PLAIN


class Liar(Between):
    """`told` counts lies by kind; `asked` the answers in which there might have been one. With a rate of 0 it only listens."""

    def __init__(self, to, seed, rate):
        self.random, self.rate, self.told, self.asked = random.Random(f"{seed}/lies"), 0.0, Counter(), 0
        self.once, self.kept, self.order = rate, {}, []
        super().__init__(to)

    def begin(self):
        """Everything is set up: from here on it lies."""
        self.rate = self.once

    def seen(self, request):
        """Remembers what is stored, complete objects and parts."""
        if request.method != "PUT" or not request.key or request.header("x-amz-copy-source") or not set(request.query) <= {"partNumber", "uploadId", "x-id"}:
            return
        if 0 < len(request.body) <= KEPT_EACH_MAX_BYTES:
            headers = [(name, value) for name, value in request.headers if name.lower().startswith("x-amz-meta-")]
            with self.lock:
                self.kept.setdefault((request.bucket, request.key), []).append(Stored(headers, request.body))
                self.order.append((request.bucket, request.key, len(request.body)))
                while sum(size for *_, size in self.order) > KEPT_MAX_BYTES:
                    bucket, key, _ = self.order.pop(0)
                    self.kept[bucket, key].pop(0)

    def changed(self, request, answer):
        if request.method == "PUT" and answer.status == 200 and answer.header("etag"):
            kinds = ("etag of a write",)
        elif asks_for_object(request) and answer.status in (200, 206) and answer.whole:
            kinds = HEADS if request.method == "HEAD" or not answer.body else KINDS
        else:
            return answer
        with self.lock:
            self.asked += 1
            if self.random.random() >= self.rate * (0.2 if request.method == "PUT" else 1):
                return answer
            kind = self.random.choice(kinds)
            if LIES[kind](self, request, answer) is False:
                # There is nothing yet to show instead.
                kind = "bit" if answer.body else "etag"
                LIES[kind](self, request, answer)
            self.told[kind] += 1
        return answer

    def earlier(self, request):
        """Former versions of the object, without the newest."""
        return self.kept.get((request.bucket, request.key), [])[:-1]

    def other(self, request):
        """Another object's, in the same bucket if there is one."""
        def of(wanted):
            return [stored[-1] for (bucket, key), stored in self.kept.items() if stored and key != request.key and wanted(bucket)]
        found = of(lambda bucket: bucket == request.bucket) or of(lambda bucket: True)
        return self.random.choice(found) if found else None


def put_in(request, answer, stored, body=True, headers=True):
    """Answers as if `stored` were there; with the range that was asked for."""
    if headers:
        answer.headers = [(name, value) for name, value in answer.headers if not name.lower().startswith("x-amz-meta-")] + stored.headers
    if not body:
        return
    whole, asked = stored.body, re.fullmatch(r"bytes=(\d*)-(\d*)", request.header("range") or "")
    answer.body = whole
    if answer.status == 206 and asked and whole:
        first, last = asked.groups()
        start = max(0, len(whole) - int(last)) if first == "" else min(int(first), len(whole) - 1)
        end = len(whole) if first == "" or last == "" else min(int(last) + 1, len(whole))
        answer.body = whole[start:max(end, start + 1)]
        answer.set("Content-Range", f"bytes {start}-{start + len(answer.body) - 1}/{len(whole)}")


def bit(liar, _, answer):
    at = liar.random.randrange(len(answer.body))
    answer.body = answer.body[:at] + bytes([answer.body[at] ^ 1 << liar.random.randrange(8)]) + answer.body[at + 1:]


def shorter(liar, _, answer):
    answer.body = answer.body[:liar.random.randrange(len(answer.body))]


def shorter_by_segments(liar, _, answer):
    """As a shorter object is: whole segments are missing, and the end is where it should be."""
    segments = len(answer.body) // SEGMENT
    if segments < 2:
        return False
    at = liar.random.randrange(segments) * SEGMENT
    answer.body = answer.body[:at] + answer.body[at + SEGMENT:]
    return True


def longer(liar, _, answer):
    answer.body += liar.random.randbytes(liar.random.randrange(1, 100))


def broken_off(liar, _, answer):
    answer.length, answer.whole = len(answer.body), False
    answer.body = answer.body[:liar.random.randrange(len(answer.body))]


def swapped(liar, request, answer):
    """Another object's, complete."""
    return _shown(request, answer, liar.other(request))


def body_swapped(liar, request, answer):
    return _shown(request, answer, liar.other(request), headers=False)


def envelope_swapped(liar, request, answer):
    return _shown(request, answer, liar.other(request), body=False)


def replayed(liar, request, answer):
    """The object itself as it once was, complete: what no reader can notice."""
    return _shown(request, answer, _one_of(liar, request))


def half_replayed(liar, request, answer):
    """The old body below the new envelope, or the other way round."""
    new_body = liar.random.random() < 0.5
    return _shown(request, answer, _one_of(liar, request), body=not new_body, headers=new_body)


def _one_of(liar, request):
    earlier = liar.earlier(request)
    return liar.random.choice(earlier) if earlier else None


def _shown(request, answer, stored, **which):
    if stored is None:
        return False
    put_in(request, answer, stored, **which)
    return True


def spliced(liar, request, answer):
    """A segment of another object, or of another place, where one of this one was."""
    other = liar.other(request)
    if other is None or len(answer.body) < 2:
        return False
    if len(answer.body) >= 2 * SEGMENT and liar.random.random() < 0.5:
        first, second = answer.body[:SEGMENT], answer.body[SEGMENT:2 * SEGMENT]
        answer.body = second + first + answer.body[2 * SEGMENT:]
        return True
    size = min(SEGMENT, len(other.body), len(answer.body) // 2 or 1)
    at = liar.random.randrange(len(answer.body) - size + 1)
    answer.body = answer.body[:at] + other.body[:size] + answer.body[at + size:]
    return True


def etag(liar, _, answer):
    answer.set("ETag", f'"{liar.random.randbytes(16).hex()}"')


def envelope(liar, _, answer):
    """A character of it is another one."""
    text = answer.header(ENVELOPE)
    if not text:
        return False
    at = liar.random.randrange(len(text))
    answer.set(ENVELOPE, text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1:])
    return True


def envelope_gone(_, __, answer):
    if not answer.header(ENVELOPE):
        return False
    answer.headers = [(name, value) for name, value in answer.headers if name.lower() != ENVELOPE]
    return True


def size(liar, _, answer):
    """Another length of the whole than it has."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.header("content-range") or "")
    if not found:
        answer.length += liar.random.choice((-1, 1, 28, 4096)) if answer.length > 1 else 1
        return not answer.body
    answer.set("Content-Range", f"bytes {found[1]}-{found[2]}/{int(found[3]) + liar.random.choice((1, 28, 4096))}")
    return True


def other_range(_, __, answer):
    """Bytes of another place than it says."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.header("content-range") or "")
    if not found or len(answer.body) < 2:
        return False
    answer.body = answer.body[1:] + answer.body[:1]
    return True


LIES = {
    "bit": bit, "shorter": shorter, "a segment less": shorter_by_segments, "longer": longer, "broken off": broken_off, "swapped": swapped,
    "body swapped": body_swapped, "envelope swapped": envelope_swapped, "replayed": replayed, "half replayed": half_replayed,
    "spliced": spliced, "etag": etag, "envelope": envelope, "envelope gone": envelope_gone, "size": size, "other range": other_range,
    "etag of a write": etag,
}
HEADS = ("etag", "envelope", "envelope gone", "envelope swapped", "size")
KINDS = tuple(kind for kind in LIES if kind != "etag of a write")
