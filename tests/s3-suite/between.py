"""A relay for HTTP that takes each request and each answer in whole, shows them to somebody, and passes on what that one makes of them."""

import http.client
import http.server
import ssl
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

TIMEOUT_S = 120
# Of one hop only.
HOP = {"connection", "keep-alive", "transfer-encoding"}
BODILESS = (204, 304)


@dataclass
class Request:
    """As it came; `query` has empty values, too."""

    method: str
    target: str
    headers: list
    body: bytes

    def __post_init__(self):
        path, _, query = self.target.partition("?")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        bucket, _, key = path[1:].partition("/")
        self.bucket, self.key = unquote(bucket), unquote(key)

    def header(self, name):
        return next((value for known, value in self.headers if known.lower() == name), None)


@dataclass
class Answer:
    """`whole` is false if it ended before its time, as it then does for who asked. `length` is that of HEAD's absent body."""

    status: int
    headers: list
    body: bytes
    whole: bool = True
    length: int = field(default=0)

    def header(self, name):
        return next((value for known, value in self.headers if known.lower() == name), None)

    def set(self, name, value):
        self.headers = [(known, old) for known, old in self.headers if known.lower() != name] + [(name, value)]


class Between:
    """Listens on a free port of 127.0.0.1 and asks `to` ("http://…", or "https://…" with `far`, a context). `near` is one for TLS here."""

    def __init__(self, to, near=None, far=None):
        scheme, _, self.address = to.partition("://")
        self.far = far if scheme == "https" else None
        self.lock, self.local = threading.Lock(), threading.local()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.between = self
        if near:
            self.server.socket = near.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if near else 'http'}://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def seen(self, request):
        """A request that is about to be passed on."""

    def changed(self, request, answer):
        """What is given for the answer."""
        return answer

    def ask(self, request):
        """Passes it on, over a connection of its own for each thread. None: there is no answer."""
        for fresh in (False, True):
            connection = getattr(self.local, "connection", None)
            if fresh or connection is None:
                if connection is not None:
                    connection.close()
                made = http.client.HTTPSConnection(self.address, timeout=TIMEOUT_S, context=self.far) if self.far else http.client.HTTPConnection(self.address, timeout=TIMEOUT_S)
                fresh, connection = True, made
            self.local.connection = None
            try:
                answer = _exchange(connection, request)
            except (OSError, http.client.HTTPException):
                connection.close()
                # One that was kept may have been closed meanwhile.
                if fresh or request.method not in ("GET", "HEAD"):
                    return None
                continue
            if answer.whole and (answer.header("connection") or "").lower() != "close":
                self.local.connection = connection
            else:
                connection.close()
            return answer

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def _exchange(connection, request):
    connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers:
        if name.lower() not in HOP | {"expect", "content-length"}:
            connection.putheader(name, value.encode("latin-1"))
    if request.body or request.header("content-length") is not None or request.header("transfer-encoding"):
        connection.putheader("Content-Length", str(len(request.body)))
    connection.endheaders()
    if request.body:
        try:
            connection.send(request.body)
        except OSError:
            # It was refused early, perhaps, and the answer is there.
            pass
    got = connection.getresponse()
    headers, length = list(got.headers.items()), int(got.headers.get("content-length") or 0)
    try:
        return Answer(got.status, headers, got.read(), True, length)
    except http.client.IncompleteRead as error:
        return Answer(got.status, headers, error.partial, False, length)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        """A client that went away is nothing to speak of."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.connection.settimeout(TIMEOUT_S)

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.serve
        raise AttributeError(name)

    def serve(self):
        body = self._body()
        request = Request(self.command, self.path, list(self.headers.items()), body)
        between = self.server.between
        between.seen(request)
        answer = between.ask(request)
        if answer is not None:
            answer = between.changed(request, answer)
        if answer is None:
            self.close_connection = True
            return
        self._tell(request, answer)

    def _body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _tell(self, request, answer):
        head = [f"HTTP/1.1 {answer.status} -"]
        head += [f"{name}: {value}" for name, value in answer.headers if name.lower() not in HOP | {"content-length"}]
        bodiless = request.method == "HEAD" or answer.status in BODILESS
        if not bodiless or answer.header("content-length") is not None:
            # Of an answer that broke off: what was promised, not what came.
            head.append(f"Content-Length: {len(answer.body) if answer.whole and not bodiless else max(answer.length, len(answer.body) + (not answer.whole))}")
        if not answer.whole or (answer.header("connection") or "").lower() == "close":
            head.append("Connection: close")
            self.close_connection = True
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1"))
        if not bodiless:
            self.wfile.write(answer.body)

    def log_message(self, *_):
        """It says nothing."""


def trusting(ca, certificate, key):
    """Contexts for a relay that ends TLS with this certificate, and for what it asks."""
    near, far = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=ca)
    near.load_cert_chain(certificate, key)
    return near, far
