"""What is asked of both servers: for each scenario its steps, in order, on keys of its own."""

import base64
from dataclasses import dataclass, field


def b64(raw):
    return base64.b64encode(raw).decode()


HELLO, CONTEXT, OTHER, AAD = b64(b"hello"), b64(b"context"), b64(b"other"), b64(b"aad")


@dataclass
class Step:
    """One request. `path` is below /v1/transit/, or whole if it begins with a slash."""

    name: str
    method: str
    path: str
    body: object = b""
    headers: dict = field(default_factory=dict)
    # Names for parts of the answer, such as {"ct": "data.ciphertext"}, for later steps to refer to.
    save: dict = field(default_factory=dict)
    # What the answer's `data.plaintext` has to be.
    opens: str = None
    # Whether the custodian wants two officers for it.
    gated: bool = False


class Ref:
    """A saved part of an answer, changed by `change` if there is one."""

    def __init__(self, name, change=None):
        self.name, self.change = name, change or (lambda text: text)


def filled(value, saved):
    """`value` with what its references refer to."""
    if isinstance(value, Ref):
        return value.change(saved[value.name])
    if isinstance(value, dict):
        return {name: filled(inner, saved) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, saved) for inner in value]
    return value


def as_version(number):
    return lambda text: f"vault:v{number}:" + text.split(":", 2)[2]


def flipped(place):
    """One bit of the byte at `place` is another."""
    def change(text):
        head, encoded = text.rsplit(":", 1)
        raw = bytearray(base64.b64decode(encoded))
        raw[place] ^= 1
        return f"{head}:{b64(raw)}"
    return change


def cut(length):
    def change(text):
        head, encoded = text.rsplit(":", 1)
        return f"{head}:{b64(base64.b64decode(encoded)[:length])}"
    return change


def post(name, path, body=b"", **more):
    return Step(name, "POST", path, body, **more)


def get(name, path, **more):
    return Step(name, "GET", path, **more)


def delete(name, path, **more):
    return Step(name, "DELETE", path, **more)


def create(key, **options):
    return post(f"create {key}", f"keys/{key}", options or b"")


CT = {"ct": "data.ciphertext"}

KEYS = [
    get("read before", "keys/keys-a"),
    post("create with an empty body", "keys/keys-a"),
    post("create again", "keys/keys-a", {}),
    post("create again with another type", "keys/keys-a", {"type": "chacha20-poly1305"}),
    get("read", "keys/keys-a"),
    Step("create by PUT", "PUT", "keys/keys-b", {"type": "aes128-gcm96", "derived": True}),
    get("read derived", "keys/keys-b"),
    post("create with all options", "keys/keys-c", {
        "type": "chacha20-poly1305", "derived": "true", "exportable": False, "allow_plaintext_backup": False, "auto_rotate_period": "24h"}),
    post("period in seconds", "keys/keys-d", {"auto_rotate_period": 7200}),
    post("period as digits", "keys/keys-e", {"auto_rotate_period": "7200"}),
    post("period too short", "keys/keys-f", {"auto_rotate_period": "59m"}),
    post("period unreadable", "keys/keys-f", {"auto_rotate_period": "often"}),
    post("unknown type", "keys/keys-f", {"type": "rot13"}),
    post("unknown field", "keys/keys-g", {"colour": "blue", "depth": 3}),
    post("derived not a flag", "keys/keys-f", {"derived": "perhaps"}),
    get("a refused key is not there", "keys/keys-f"),
    Step("LIST", "LIST", "keys"),
    Step("LIST with a slash", "LIST", "keys/"),
    get("GET with list", "keys?list=true"),
    get("GET of the list without saying so", "keys"),
    get("read unknown", "keys/nowhere"),
    Step("HEAD of a key", "HEAD", "keys/keys-a"),
    Step("PATCH of a key", "PATCH", "keys/keys-a", {}),
]

ENCRYPT = [
    create("enc"),
    post("rotate", "keys/enc/rotate"),
    post("rotate again by PUT", "keys/enc/rotate", {}),
    post("encrypt", "encrypt/enc", {"plaintext": HELLO}, save=CT),
    post("decrypt", "decrypt/enc", {"ciphertext": Ref("ct")}, opens=HELLO),
    Step("decrypt by PUT", "PUT", "decrypt/enc", {"ciphertext": Ref("ct")}, opens=HELLO),
    post("another content type", "decrypt/enc", {"ciphertext": Ref("ct")}, headers={"Content-Type": "text/plain"}, opens=HELLO),
    post("encrypt under 1", "encrypt/enc", {"plaintext": HELLO, "key_version": 1}, save={"old": "data.ciphertext"}),
    post("decrypt of 1", "decrypt/enc", {"ciphertext": Ref("old")}, opens=HELLO),
    post("version as text", "encrypt/enc", {"plaintext": HELLO, "key_version": "2"}),
    post("version 0 is the newest", "encrypt/enc", {"plaintext": HELLO, "key_version": 0}),
    post("version beyond", "encrypt/enc", {"plaintext": HELLO, "key_version": 4}),
    post("version negative", "encrypt/enc", {"plaintext": HELLO, "key_version": -1}),
    post("version not a number", "encrypt/enc", {"plaintext": HELLO, "key_version": "new"}),
    post("rewrap", "rewrap/enc", {"ciphertext": Ref("old")}, save={"new": "data.ciphertext"}),
    post("decrypt of the rewrapped", "decrypt/enc", {"ciphertext": Ref("new")}, opens=HELLO),
    post("rewrap to a version", "rewrap/enc", {"ciphertext": Ref("old"), "key_version": 2}),
    post("rewrap beyond", "rewrap/enc", {"ciphertext": Ref("old"), "key_version": 9}),
    post("rewrap without", "rewrap/enc", {}),
    post("empty plaintext", "encrypt/enc", {"plaintext": ""}, save={"empty": "data.ciphertext"}),
    post("decrypt of the empty", "decrypt/enc", {"ciphertext": Ref("empty")}, opens=""),
    post("no plaintext", "encrypt/enc", {}),
    post("no body", "encrypt/enc"),
    post("bad base64", "encrypt/enc", {"plaintext": "!!"}),
    post("base64 without padding", "encrypt/enc", {"plaintext": "aGVsbG8"}),
    post("base64 of URLs", "encrypt/enc", {"plaintext": "__--"}),
    post("plaintext a number", "encrypt/enc", {"plaintext": 5}),
    post("plaintext null", "encrypt/enc", {"plaintext": None}),
    post("plaintext a list", "encrypt/enc", {"plaintext": [HELLO]}),
    post("unknown field", "encrypt/enc", {"plaintext": HELLO, "colour": "blue"}),
    post("unknown key", "encrypt/nowhere", {"plaintext": HELLO}),
    post("decrypt with unknown key", "decrypt/nowhere", {"ciphertext": Ref("ct")}),
    post("rewrap with unknown key", "rewrap/nowhere", {"ciphertext": Ref("ct")}),
    post("data key of unknown key", "datakey/plaintext/nowhere", {}),
    post("64 KiB", "encrypt/enc", {"plaintext": b64(bytes(65536))}),
]

CIPHERTEXTS = [
    create("bad"),
    post("rotate", "keys/bad/rotate"),
    post("encrypt", "encrypt/bad", {"plaintext": HELLO}, save=CT),
] + [
    post(name, "decrypt/bad", {"ciphertext": value}) for name, value in {
        "none": None,
        "empty": "",
        "a number": 7,
        "no prefix": "hello",
        "other prefix": Ref("ct", lambda text: text.replace("vault", "bao")),
        "capitals": Ref("ct", str.upper),
        "prefix only": "vault:v",
        "no colon": "vault:v1",
        "no version": Ref("ct", lambda text: text.replace("v2:", "v:")),
        "version a word": Ref("ct", as_version("two")),
        "version with a sign": Ref("ct", as_version("+2")),
        "version negative": Ref("ct", as_version("-2")),
        "version 0": Ref("ct", as_version("0")),
        "version beyond": Ref("ct", as_version("3")),
        "version huge": Ref("ct", as_version("4294967297")),
        "version too huge": Ref("ct", as_version("99999999999999999999")),
        "version of another": Ref("ct", as_version("1")),
        "nothing after the version": "vault:v2:",
        "bad base64": "vault:v2:!!!!",
        "base64 without padding": "vault:v2:" + "A" * 41,
        "base64 of URLs": Ref("ct", lambda text: "vault:v2:____" + text[13:]),
        "one field more": Ref("ct", lambda text: text + ":x"),
        "nonce changed": Ref("ct", flipped(0)),
        "body changed": Ref("ct", flipped(13)),
        "tag changed": Ref("ct", flipped(-1)),
        "last byte missing": Ref("ct", cut(-1)),
        "tag missing": Ref("ct", cut(17)),
        "nonce only": Ref("ct", cut(12)),
        "shorter than a nonce": Ref("ct", cut(11)),
    }.items()
] + [
    post("rewrap of no prefix", "rewrap/bad", {"ciphertext": "hello"}),
    post("rewrap of a changed tag", "rewrap/bad", {"ciphertext": Ref("ct", flipped(-1))}),
    post("rewrap of a version beyond", "rewrap/bad", {"ciphertext": Ref("ct", as_version("3"))}),
    create("bad-chacha", type="chacha20-poly1305"),
    post("encrypt with ChaCha", "encrypt/bad-chacha", {"plaintext": HELLO}, save={"chacha": "data.ciphertext"}),
    post("tag changed with ChaCha", "decrypt/bad-chacha", {"ciphertext": Ref("chacha", flipped(-1))}),
    post("of another key", "decrypt/bad-chacha", {"ciphertext": Ref("ct", as_version("1"))}),
]


def types(key_type):
    key = f"derived-{key_type}"
    return [
        create(key, type=key_type, derived=True),
        get("read", f"keys/{key}"),
        post("encrypt", f"encrypt/{key}", {"plaintext": HELLO, "context": CONTEXT, "associated_data": AAD}, save=CT),
        post("decrypt", f"decrypt/{key}", {"ciphertext": Ref("ct"), "context": CONTEXT, "associated_data": AAD}, opens=HELLO),
        post("other context", f"decrypt/{key}", {"ciphertext": Ref("ct"), "context": OTHER, "associated_data": AAD}),
        post("other data", f"decrypt/{key}", {"ciphertext": Ref("ct"), "context": CONTEXT, "associated_data": OTHER}),
        post("no data", f"decrypt/{key}", {"ciphertext": Ref("ct"), "context": CONTEXT}),
        post("no context", f"decrypt/{key}", {"ciphertext": Ref("ct"), "associated_data": AAD}),
        post("empty context", f"decrypt/{key}", {"ciphertext": Ref("ct"), "context": "", "associated_data": AAD}),
        post("encrypt without context", f"encrypt/{key}", {"plaintext": HELLO}),
        post("bad base64 in context", f"encrypt/{key}", {"plaintext": HELLO, "context": "!!"}),
        post("bad base64 in data", f"encrypt/{key}", {"plaintext": HELLO, "context": CONTEXT, "associated_data": "!!"}),
        post("rewrap without context", f"rewrap/{key}", {"ciphertext": Ref("ct")}),
        post("rotate", f"keys/{key}/rotate"),
        post("rewrap", f"rewrap/{key}", {"ciphertext": Ref("ct"), "context": CONTEXT}),
        post("data key", f"datakey/plaintext/{key}", {"context": CONTEXT}, save={"ct": "data.ciphertext", "key": "data.plaintext"}),
        post("data key opens", f"decrypt/{key}", {"ciphertext": Ref("ct"), "context": CONTEXT}, opens=Ref("key")),
    ]


DATA_KEYS = [
    create("dk"),
    post("rotate", "keys/dk/rotate"),
    post("plaintext", "datakey/plaintext/dk"),
    Step("wrapped by PUT", "PUT", "datakey/wrapped/dk", {}),
    post("128 bits", "datakey/plaintext/dk", {"bits": 128}),
    post("512 bits", "datakey/plaintext/dk", {"bits": 512}),
    post("bits as text", "datakey/plaintext/dk", {"bits": "512"}),
    post("other bits", "datakey/plaintext/dk", {"bits": 192}),
    post("no bits", "datakey/plaintext/dk", {"bits": 0}),
    post("bits a word", "datakey/plaintext/dk", {"bits": "many"}),
    post("neither kind", "datakey/open/dk", {}),
    post("under 1", "datakey/wrapped/dk", {"key_version": 1}),
    post("version beyond", "datakey/wrapped/dk", {"key_version": 3}),
    post("with data", "datakey/wrapped/dk", {"associated_data": AAD}, save=CT),
    post("opens with its data", "decrypt/dk", {"ciphertext": Ref("ct"), "associated_data": AAD}),
    post("does not open without", "decrypt/dk", {"ciphertext": Ref("ct")}),
    get("GET", "datakey/plaintext/dk"),
    create("dk-derived", derived=True),
    post("no context", "datakey/wrapped/dk-derived", {}),
    post("unknown field", "datakey/wrapped/dk", {"colour": "blue"}),
]

BATCHES = [
    create("batch", derived=True),
    post("encrypt", "encrypt/batch", {"batch_input": [
        {"plaintext": HELLO, "context": CONTEXT, "reference": "one"},
        {"plaintext": "", "context": OTHER, "associated_data": AAD}]},
        save={"one": "data.batch_results.0.ciphertext", "two": "data.batch_results.1.ciphertext"}),
    post("decrypt", "decrypt/batch", {"batch_input": [
        {"ciphertext": Ref("two"), "context": OTHER, "associated_data": AAD, "reference": "two"},
        {"ciphertext": Ref("one"), "context": CONTEXT}]}),
    post("rewrap", "rewrap/batch", {"batch_input": [
        {"ciphertext": Ref("one"), "context": CONTEXT, "reference": "one"}, {"ciphertext": Ref("one"), "context": CONTEXT}]}),
    post("rewrap with a bad one", "rewrap/batch", {"batch_input": [
        {"ciphertext": Ref("one"), "context": CONTEXT, "reference": "good"},
        {"ciphertext": Ref("one"), "context": OTHER, "reference": "bad"},
        {"ciphertext": "hello", "context": OTHER}]}),
    post("decrypt with a bad one", "decrypt/batch", {"batch_input": [
        {"ciphertext": Ref("one"), "context": CONTEXT, "reference": "good"},
        {"ciphertext": Ref("one", flipped(-1)), "context": CONTEXT, "reference": "bad"}]}),
    post("decrypt with a bad one, partly", "decrypt/batch", {"partial_failure_response_code": 207, "batch_input": [
        {"ciphertext": Ref("one"), "context": CONTEXT}, {"ciphertext": "hello", "context": CONTEXT}]}),
    post("decrypt of bad ones only, partly", "decrypt/batch", {"partial_failure_response_code": 207, "batch_input": [
        {"ciphertext": "hello", "context": CONTEXT}, {"ciphertext": "hello", "context": CONTEXT}]}),
    post("encrypt with a bad one", "encrypt/batch", {"batch_input": [
        {"plaintext": HELLO, "context": CONTEXT, "reference": "good"},
        {"plaintext": "!!", "context": CONTEXT, "reference": "bad"}]}),
    post("encrypt with a bad one, partly", "encrypt/batch", {"partial_failure_response_code": 200, "batch_input": [
        {"plaintext": HELLO, "context": CONTEXT}, {"plaintext": HELLO, "context": CONTEXT, "key_version": 7}]}),
    post("encrypt with bad base64 in a context", "encrypt/batch", {"batch_input": [
        {"plaintext": HELLO, "context": CONTEXT}, {"plaintext": HELLO, "context": "!!"}]}),
    post("context in one only", "encrypt/batch", {"batch_input": [{"plaintext": HELLO, "context": CONTEXT}, {"plaintext": HELLO}]}),
    post("context in none", "encrypt/batch", {"batch_input": [{"plaintext": HELLO}, {"plaintext": HELLO}]}),
    post("no items", "encrypt/batch", {"batch_input": []}),
    post("no items to decrypt", "decrypt/batch", {"batch_input": []}),
    post("no items to rewrap", "rewrap/batch", {"batch_input": []}),
    post("not a list", "encrypt/batch", {"batch_input": "one"}),
    post("an item that is no object", "encrypt/batch", {"batch_input": ["one"]}),
    post("an item without a plaintext", "encrypt/batch", {"batch_input": [{"context": CONTEXT}]}),
    post("an item without a ciphertext", "decrypt/batch", {"batch_input": [{"context": CONTEXT}]}),
    post("unknown key", "decrypt/nowhere", {"batch_input": [{"ciphertext": Ref("one"), "context": CONTEXT}]}),
    create("batch-plain"),
    post("rotate", "keys/batch-plain/rotate"),
    post("versions of their own", "encrypt/batch-plain", {"batch_input": [
        {"plaintext": HELLO, "key_version": 1}, {"plaintext": HELLO, "key_version": 2}, {"plaintext": HELLO}]}),
    post("a hundred", "encrypt/batch-plain", {"batch_input": [{"plaintext": HELLO, "reference": str(n)} for n in range(100)]}),
]

CONFIGURATION = [
    create("conf"),
    post("rotate", "keys/conf/rotate"),
    post("rotate again", "keys/conf/rotate"),
    post("rotate a third time", "keys/conf/rotate"),
    post("encrypt under 1", "encrypt/conf", {"plaintext": HELLO, "key_version": 1}, save=CT),
    post("empty body", "keys/conf/config"),
    post("unknown field", "keys/conf/config", {"colour": "blue"}),
    post("unknown key", "keys/nowhere/config", {"min_decryption_version": 1}),
    post("unknown key to rotate", "keys/nowhere/rotate"),
    post("unknown key to trim", "keys/nowhere/trim", {"min_available_version": 1}),
    post("decryption beyond", "keys/conf/config", {"min_decryption_version": 9}),
    post("encryption beyond", "keys/conf/config", {"min_encryption_version": 9}),
    post("decryption negative", "keys/conf/config", {"min_decryption_version": -1}),
    post("encryption negative", "keys/conf/config", {"min_encryption_version": -1}),
    post("decryption a word", "keys/conf/config", {"min_decryption_version": "new"}),
    post("decryption 0", "keys/conf/config", {"min_decryption_version": 0}),
    post("trim without a minimum for encryption", "keys/conf/trim", {"min_available_version": 1}),
    post("raise decryption to 2", "keys/conf/config", {"min_decryption_version": 2}, gated=True),
    post("too old", "decrypt/conf", {"ciphertext": Ref("ct")}),
    post("too old to rewrap", "rewrap/conf", {"ciphertext": Ref("ct")}),
    post("encryption below decryption", "keys/conf/config", {"min_encryption_version": 1}),
    post("encryption from 3", "keys/conf/config", {"min_encryption_version": 3}),
    post("encrypt under 2", "encrypt/conf", {"plaintext": HELLO, "key_version": 2}),
    post("encrypt under 3", "encrypt/conf", {"plaintext": HELLO, "key_version": 3}),
    post("trim above decryption", "keys/conf/trim", {"min_available_version": 3}),
    post("trim above encryption", "keys/conf/trim", {"min_available_version": 4}),
    post("trim without a number", "keys/conf/trim", {}),
    post("trim to a word", "keys/conf/trim", {"min_available_version": "new"}),
    post("lower decryption to 1", "keys/conf/config", {"min_decryption_version": 1}, gated=True),
    post("what is old opens again", "decrypt/conf", {"ciphertext": Ref("ct")}, opens=HELLO),
    post("raise decryption to 2 again", "keys/conf/config", {"min_decryption_version": 2}, gated=True),
    post("trim to 2", "keys/conf/trim", {"min_available_version": 2}, gated=True),
    get("read the trimmed", "keys/conf"),
    post("trim back", "keys/conf/trim", {"min_available_version": 1}),
    post("trimmed is too old", "decrypt/conf", {"ciphertext": Ref("ct")}),
    post("lower decryption below what there is", "keys/conf/config", {"min_decryption_version": 1}),
    post("unset encryption after a trim", "keys/conf/config", {"min_encryption_version": 0}),
    post("period an hour", "keys/conf/config", {"auto_rotate_period": "1h", "min_encryption_version": 4, "colour": 1}),
    post("period too short", "keys/conf/config", {"auto_rotate_period": 3599}),
    post("period none", "keys/conf/config", {"auto_rotate_period": 0}),
    get("GET of the configuration", "keys/conf/config"),
    post("exportable", "keys/conf/config", {"exportable": True}, gated=True),
    post("exportable stays", "keys/conf/config", {"exportable": False}),
    post("plaintext backup", "keys/conf/config", {"allow_plaintext_backup": "true"}, gated=True),
    post("plaintext backup stays", "keys/conf/config", {"allow_plaintext_backup": False}),
    get("read at the end", "keys/conf"),
]

DELETION = [
    create("del"),
    post("encrypt", "encrypt/del", {"plaintext": HELLO}, save=CT),
    delete("not allowed", "keys/del"),
    delete("set aside", "keys/del/soft-delete"),
    delete("set aside again", "keys/del/soft-delete"),
    get("read", "keys/del"),
    post("encrypt while set aside", "encrypt/del", {"plaintext": HELLO}),
    post("decrypt while set aside", "decrypt/del", {"ciphertext": Ref("ct")}),
    post("rewrap while set aside", "rewrap/del", {"ciphertext": Ref("ct")}),
    post("data key while set aside", "datakey/plaintext/del", {}),
    post("rotate while set aside", "keys/del/rotate"),
    post("set aside by POST", "keys/del/soft-delete"),
    post("restore", "keys/del/soft-delete-restore"),
    post("restore again", "keys/del/soft-delete-restore"),
    post("opens again", "decrypt/del", {"ciphertext": Ref("ct")}, opens=HELLO),
    post("allow", "keys/del/config", {"deletion_allowed": True}, gated=True),
    delete("delete", "keys/del", gated=True),
    get("is gone", "keys/del"),
    post("does not open", "decrypt/del", {"ciphertext": Ref("ct")}),
    delete("delete again", "keys/del"),
    delete("set aside what is gone", "keys/del/soft-delete"),
    post("restore what is gone", "keys/del/soft-delete-restore"),
    create("del"),
    post("does not open with a new key", "decrypt/del", {"ciphertext": Ref("ct")}),
]


def nested(depth):
    return b'{"plaintext":' + b"[" * depth + b"]" * depth + b"}"


JSON = [create("json")] + [
    post(name, "encrypt/json", body) for name, body in {
        "cut": b'{"plaintext":',
        "not JSON": b"plaintext=aGVsbG8=",
        "XML": b"<plaintext>aGVsbG8=</plaintext>",
        "a list": b"[]",
        "a text": b'"aGVsbG8="',
        "a number": b"1",
        "null": b"null",
        "white space": b" \r\n\t ",
        "something after it": b'{"plaintext":"aGVsbG8="} x',
        "two objects": b'{"plaintext":"aGVsbG8="}{"plaintext":"aGVsbG8="}',
        "a name twice": b'{"plaintext":"aGVsbG8=","plaintext":"aGVsbG8="}',
        "a comma too many": b'{"plaintext":"aGVsbG8=",}',
        "single quotes": b"{'plaintext':'aGVsbG8='}",
        "a byte order mark": b'\xef\xbb\xbf{"plaintext":"aGVsbG8="}',
        "not UTF-8": b'{"plaintext":"aGVsbG8=","x":"\xff"}',
        "NUL": b'{"plaintext":"aGVsbG8="}\x00',
        "escapes": b'{"plain\\u0074ext":"aGVsbG8\\u003d"}',
        "half a surrogate": b'{"plaintext":"aGVsbG8=","x":"\\ud800"}',
        "10 deep": nested(10),
        "1,000 deep": nested(1_000),
        "100,000 deep": nested(100_000),
        "an endless number": b'{"plaintext":"aGVsbG8=","key_version":' + b"1" * 400 + b"}",
        "a fraction": b'{"plaintext":"aGVsbG8=","key_version":1.5}',
        "an exponent": b'{"plaintext":"aGVsbG8=","key_version":1e0}',
    }.items()
]

PATHS = [create("path")] + [
    post(f"POST {path}", path, {"plaintext": HELLO}) for path in [
        "encrypt/", "encrypt", "encrypt/path/", "encrypt/path/x", "encrypt/a/../path", "encrypt/./path", "encrypt//path",
        "/v1//transit/encrypt/path", "/v1/transit/../transit/encrypt/path", "/v1/../v1/transit/encrypt/path", "/v1/sys/../transit/encrypt/path",
        "encrypt/%70ath", "encrypt/path%2f", "encrypt/%2e%2e/path", "encrypt/path%00", "encrypt/path%0a", "encrypt/path%20", "encrypt/p%C3%A4th",
        "encrypt/path;x", "encrypt/path?x=y", "encrypt/path%3fx", "encrypt/path%", "encrypt/path%zz", "encrypt/" + "p" * 64,
        "encrypt/" + "p" * 4000, "encrypt/-path", "encrypt/.path", "encrypt/..", "encrypt\\path", "ENCRYPT/path",
        "/v2/transit/encrypt/path", "/transit/encrypt/path", "/v1/transit", "/v1/transit/", "/v1/", "/v1", "/", "/v1/nowhere/x",
        "/v1/Transit/encrypt/path", "nosuch/path", "random/16", "hash/sha2-256", "keys/path/nosuch",
    ]
] + [
    post(f"create {path}", path) for path in ["keys/..", "keys/.", "keys/a%2fb", "keys/a%00", "keys//a", "keys/a/", "keys/ä".encode().decode("latin-1")]
] + [
    get("GET encrypt", "encrypt/path"),
    delete("DELETE encrypt", "encrypt/path"),
    Step("LIST encrypt", "LIST", "encrypt/path"),
    get("GET rotate", "keys/path/rotate"),
    delete("DELETE config", "keys/path/config"),
    Step("OPTIONS", "OPTIONS", "keys/path"),
    Step("an unknown method", "BREW", "keys/path"),
]

SYSTEM = [
    get("health", "/v1/sys/health"),
    Step("health by HEAD", "HEAD", "/v1/sys/health"),
    get("health with codes of one's own", "/v1/sys/health?activecode=299"),
    get("health for standbys", "/v1/sys/health?standbyok=true&perfstandbyok=true&uninitcode=200&sealedcode=200"),
    post("health by POST", "/v1/sys/health"),
    get("seal status", "/v1/sys/seal-status"),
    post("unseal when unsealed", "/v1/sys/unseal", {"key": b64(b"\x01" * 33)}),
    post("unseal without a key", "/v1/sys/unseal", {}),
    get("GET unseal", "/v1/sys/unseal"),
]

NO_TOKEN = {"X-Vault-Token": None}

TOKENS = [
    create("token"),
    post("login", "/v1/auth/cert/login", save={"token": "auth.client_token"}),
    Step("login by PUT", "PUT", "/v1/auth/cert/login", {}),
    post("login with an unknown role", "/v1/auth/cert/login", {"name": "nobody"}),
    get("GET login", "/v1/auth/cert/login"),
    get("look up", "/v1/auth/token/lookup-self", headers={"X-Vault-Token": Ref("token")}),
    get("look up as bearer", "/v1/auth/token/lookup-self", headers={**NO_TOKEN, "Authorization": Ref("token", "Bearer {}".format)}),
    post("encrypt with it", "encrypt/token", {"plaintext": HELLO}, headers={"X-Vault-Token": Ref("token")}),
    post("encrypt with it as bearer", "encrypt/token", {"plaintext": HELLO}, headers={**NO_TOKEN, "Authorization": Ref("token", "Bearer {}".format)}),
    post("both", "encrypt/token", {"plaintext": HELLO}, headers={"X-Vault-Token": Ref("token"), "Authorization": Ref("token", "Bearer {}".format)}),
    post("an empty bearer besides", "encrypt/token", {"plaintext": HELLO}, headers={"X-Vault-Token": Ref("token"), "Authorization": "Bearer "}),
    post("an empty token besides a bearer", "encrypt/token", {"plaintext": HELLO}, headers={"X-Vault-Token": "", "Authorization": Ref("token", "Bearer {}".format)}),
    post("a namespace of nothing", "encrypt/token", {"plaintext": HELLO}, headers={"X-Vault-Token": Ref("token"), "X-Vault-Namespace": ""}),
    post("as a request", "encrypt/token", {"plaintext": HELLO}, headers={"X-Vault-Token": Ref("token"), "X-Vault-Request": "true"}),
    post("a made-up token", "encrypt/token", {"plaintext": HELLO}, headers={"X-Vault-Token": "s.made-up"}),
    get("look up a made-up token", "/v1/auth/token/lookup-self", headers={"X-Vault-Token": "s.made-up"}),
    post("no token", "encrypt/token", {"plaintext": HELLO}, headers=NO_TOKEN),
    post("an empty token", "encrypt/token", {"plaintext": HELLO}, headers={"X-Vault-Token": ""}),
    post("renew", "/v1/auth/token/renew-self", headers={"X-Vault-Token": Ref("token")}),
    post("renew with an increment", "/v1/auth/token/renew-self", {"increment": "30m"}, headers={"X-Vault-Token": Ref("token")}),
    post("revoke", "/v1/auth/token/revoke-self", headers={"X-Vault-Token": Ref("token")}),
    post("encrypt with the revoked", "encrypt/token", {"plaintext": HELLO}, headers={"X-Vault-Token": Ref("token")}),
    get("look up the revoked", "/v1/auth/token/lookup-self", headers={"X-Vault-Token": Ref("token")}),
    post("renew the revoked", "/v1/auth/token/renew-self", headers={"X-Vault-Token": Ref("token")}),
    post("revoke again", "/v1/auth/token/revoke-self", headers={"X-Vault-Token": Ref("token")}),
]

SCENARIOS = {
    "keys": KEYS,
    "encrypt": ENCRYPT,
    "ciphertexts": CIPHERTEXTS,
    **{key_type: types(key_type) for key_type in ("aes256-gcm96", "aes128-gcm96", "chacha20-poly1305")},
    "data keys": DATA_KEYS,
    "batches": BATCHES,
    "configuration": CONFIGURATION,
    "deletion": DELETION,
    "JSON": JSON,
    "paths": PATHS,
    "system": SYSTEM,
    "tokens": TOKENS,
}


def sealing(shares):
    """Seals the server and opens it again with two of its three shares."""
    return [
        post("seal", "/v1/sys/seal"),
        get("health", "/v1/sys/health"),
        Step("health by HEAD", "HEAD", "/v1/sys/health"),
        get("health with a code of one's own", "/v1/sys/health?sealedcode=299"),
        get("seal status", "/v1/sys/seal-status"),
        post("encrypt", "encrypt/sealed", {"plaintext": HELLO}),
        get("read", "keys/sealed"),
        post("create", "keys/sealed"),
        post("login", "/v1/auth/cert/login"),
        get("look up", "/v1/auth/token/lookup-self"),
        post("unseal without a key", "/v1/sys/unseal", {}),
        post("unseal with nonsense", "/v1/sys/unseal", {"key": "nonsense!"}),
        post("first share", "/v1/sys/unseal", {"key": shares[0]}),
        post("the same share again", "/v1/sys/unseal", {"key": shares[0]}),
        post("start again", "/v1/sys/unseal", {"reset": True}),
        get("seal status after that", "/v1/sys/seal-status"),
        post("third share", "/v1/sys/unseal", {"key": shares[2]}),
        post("second share", "/v1/sys/unseal", {"key": shares[1]}),
        get("seal status at the end", "/v1/sys/seal-status"),
    ]
