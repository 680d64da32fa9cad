"""A relay before what clients speak to: what they ever wrote under each name, and whether every byte that they get is of that."""

import hashlib
import re
from collections import Counter, defaultdict
from email.message import Message
from itertools import islice, product
from urllib.parse import unquote
from xml.etree import ElementTree

from between import Between

READ = {"versionId", "partNumber", "x-id"}
# Bodies that one upload may have come to, where its parts were copied from what was written more than once.
POSSIBLE_MAX = 256
WRONG_MAX = 20


class Recorder(Between):
    """`compared` and `wrong` are of bodies that were delivered, whole or (`begun`) in part; `improper` are errors that are not S3's."""

    def __init__(self, to, near=None, far=None):
        # SHA-256 of each body ever written, by (bucket, key); and the bodies, once each.
        self.written, self.bodies = defaultdict(set), {}
        self.parts = defaultdict(list)
        self.compared, self.begun, self.wrong, self.improper, self.errors, self.cut = 0, 0, [], [], Counter(), 0
        super().__init__(to, near, far)

    def keep(self, bucket, key, body):
        digest = hashlib.sha256(body).digest()
        with self.lock:
            self.bodies[digest] = body
            self.written[bucket, key].add(digest)

    def known(self, bucket, key):
        with self.lock:
            return [self.bodies[digest] for digest in self.written.get((bucket, key), ())]

    def seen(self, request):
        """Also what the server will not take: it might."""
        if request.method == "PUT" and "uploadId" in request.query:
            self._part(request)
        elif request.method == "PUT" and not (request.key and reads(request)):
            return
        elif request.method == "PUT" and request.header("x-amz-copy-source"):
            for body in self._source(request):
                self.keep(request.bucket, request.key, body)
        elif request.method == "PUT":
            self.keep(request.bucket, request.key, plain(request))
        elif request.method == "POST" and "uploadId" in request.query:
            self._complete(request)
        elif request.method == "POST" and not request.key and (request.header("content-type") or "").startswith("multipart/form-data"):
            self._form(request)

    def _source(self, request):
        path = unquote(request.header("x-amz-copy-source").partition("?versionId=")[0]).lstrip("/")
        bucket, _, key = path.partition("/")
        return self.known(bucket, key)

    def _part(self, request):
        where = request.bucket, request.key, request.query["uploadId"], request.query.get("partNumber")
        if not request.header("x-amz-copy-source"):
            found = [plain(request)]
        else:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.header("x-amz-copy-source-range") or "")
            found = [body[int(asked[1]):int(asked[2]) + 1] if asked else body for body in self._source(request)]
        with self.lock:
            self.parts[where] += found

    def _complete(self, request):
        """Which attempt of a part an ETag names is the server's to say: any of them may be meant."""
        try:
            numbers = [element.text.strip() for element in ElementTree.fromstring(request.body).iter() if element.tag.endswith("PartNumber")]
        except (ElementTree.ParseError, AttributeError):
            return
        with self.lock:
            pieces = [self.parts.get((request.bucket, request.key, request.query["uploadId"], number), []) for number in dict.fromkeys(numbers)]
        for chosen in islice(product(*pieces), POSSIBLE_MAX):
            self.keep(request.bucket, request.key, b"".join(chosen))

    def _form(self, request):
        fields = form_fields(request)
        if "key" in fields and "file" in fields:
            name, body = fields["file"]
            key = fields["key"][1].decode("utf-8", "replace").replace("${filename}", name or "")
            self.keep(request.bucket, key, body)

    def changed(self, request, answer):
        """Looks, and passes it on."""
        if answer.status >= 400:
            self._look_at_error(request, answer)
        elif request.method == "GET" and request.key and reads(request) and answer.status in (200, 206):
            self._look_at(request, answer)
        if not answer.whole:
            self.cut += 1
        return answer

    def _look_at(self, request, answer):
        known, got = self.known(request.bucket, request.key), answer.body
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.header("content-range") or "")
        start, total = (int(found[1]), int(found[3])) if found else (0, answer.length)
        promised = int(found[2]) + 1 - start if found else total
        # Of what breaks off, the client knows that; then the bytes have to be right, and how many there should be may be the liar's word.
        fits = any(body[start:start + len(got)] == got and (len(body) == total and len(got) == promised or not answer.whole) for body in known)
        with self.lock:
            self.compared += answer.whole
            self.begun += not answer.whole
            if not fits:
                self.wrong.append(f"{request.target}: {len(got)} of {promised} bytes {answer.header('content-range') or ''} ({hashlib.sha256(got).hexdigest()[:16]}), "
                                  f"which are of none of {len(known)} bodies")

    def _look_at_error(self, request, answer):
        """Anything but a document with a code, where there is to be one, is improper. To what is no HTTP, HTTP itself answers."""
        code = None
        if request.method != "HEAD" and answer.whole:
            try:
                code = ElementTree.fromstring(answer.body).findtext("{*}Code")
            except ElementTree.ParseError:
                code = None
        with self.lock:
            self.errors[f"{answer.status} {code or ''}".strip()] += 1
            if request.method != "HEAD" and answer.whole and not code and is_http(request):
                self.improper.append(f"{request.method} {request.target}: {answer.status} with {answer.body[:80]!r}")


def reads(request):
    """Whether it is an object's bytes that are asked for; how a request was signed plays no part."""
    signing = ("x-amz-", "response-", "awsaccesskeyid", "signature", "expires")
    return all(name in READ or name.lower().startswith(signing) for name in request.query)


def is_http(request):
    """Whether no header's value has control characters in it (RFC 9110, 5.5)."""
    return not any(character < " " and character != "\t" or character == "\x7f" for _, value in request.headers for character in value)


def plain(request):
    """The body without the framing of aws-chunked."""
    if not (request.header("x-amz-content-sha256") or "").startswith("STREAMING-"):
        return request.body
    pieces, at = [], 0
    while True:
        end = request.body.find(b"\r\n", at)
        if end < 0:
            return b"".join(pieces)
        try:
            size = int(request.body[at:end].split(b";")[0], 16)
        except ValueError:
            return b"".join(pieces)
        if size == 0:
            return b"".join(pieces)
        pieces.append(request.body[end + 2:end + 2 + size])
        at = end + 2 + size + 2


def form_fields(request):
    """Of a browser form: (file name, bytes) by the field's name in lower case."""
    message = Message()
    message["content-type"] = request.header("content-type")
    boundary = message.get_param("boundary")
    if not boundary:
        return {}
    found = {}
    for piece in (b"\r\n" + request.body).split(f"\r\n--{boundary}".encode())[1:]:
        head, _, body = piece.partition(b"\r\n\r\n")
        described = Message()
        described["content-disposition"] = next((line.split(b":", 1)[1].decode("utf-8", "replace").strip() for line in head.split(b"\r\n")
                                                 if line.lower().startswith(b"content-disposition:")), "")
        name = described.get_param("name", header="content-disposition")
        if name:
            found[str(name).lower()] = (described.get_param("filename", header="content-disposition"), body)
    return found
