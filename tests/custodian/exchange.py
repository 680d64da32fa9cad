"""One request to a server, sent as it stands, and its answer reduced to what two servers have to have in common."""

import base64
import http.client
import json
import re
import ssl
from dataclasses import dataclass, field

ANSWER_S = 30
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Texts whose very words are compared: those that clients decide on, and those that a KEK's rules give.
TEXTS = {
    "encryption key not found",
    "ciphertext or signature version is disallowed by policy (too old)",
    "invalid ciphertext: version is too new",
    "invalid ciphertext: no prefix",
    "invalid ciphertext: wrong number of fields",
    "invalid ciphertext: version number could not be decoded",
    "invalid ciphertext: could not decode base64",
    "invalid ciphertext length",
    "cipher: message authentication failed",
    "chacha20poly1305: message authentication failed",
    "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request "
    "information must be included in order to perform operations with the key",
    "missing plaintext to encrypt",
    "missing ciphertext to decrypt",
    "missing batch input to process",
    "requested version for encryption is higher than the latest key version",
    "requested version for encryption is less than the minimum encryption key version",
    "requested version for encryption is negative",
    "cannot set min decryption version of 9, latest key version is 4",
    "cannot set min encryption version of 9, latest key version is 4",
    "cannot set min encryption/decryption values; min encryption version of 1 must be greater than or equal to min decryption version of 2",
    "min encryption version should not be less than min available version",
    "min decryption version should not be less then min available version",
    "auto rotate period must be 0 to disable or at least an hour",
    "minimum available version cannot be decremented",
    "minimum available version cannot be set when minimum encryption version is not set",
    "minimum available version cannot be greater than minmum encryption version",
    "minimum available version cannot be greater than minimum decryption version",
    "refusing to use soft-deleted key",
    "permission denied",
    "invalid bit length",
    "Invalid path, must be 'plaintext' or 'wrapped'",
}

# Fields whose values are compared; of others the type is.
VALUES = {
    "name", "type", "kdf", "keys", "reference", "key_version", "latest_version", "min_available_version",
    "min_decryption_version", "min_encryption_version", "auto_rotate_period", "lease_id", "lease_duration", "token_type",
    "t", "n", "progress",
}

# Fields of which only the kind of value is compared: a server of roles has other things to say there than one of certificates.
LOOSE = {"metadata", "meta", "policies", "token_policies"}


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict
    raw: bytes
    body: object = field(init=False)

    def __post_init__(self):
        try:
            self.body = json.loads(self.raw) if self.raw else None
        except ValueError:
            self.body = {"not JSON": len(self.raw) > 0}

    def errors(self):
        return self.body.get("errors") if isinstance(self.body, dict) else None


class RawConnection(http.client.HTTPSConnection):
    """Sends a path of any bytes."""

    def _encode_request(self, request):
        return request.encode("latin-1")


class Connection:
    """Who asks a server, and how."""

    def __init__(self, port, ca_file, identity, headers):
        self.port, self.headers = port, headers
        self.context = ssl.create_default_context(cafile=str(ca_file))
        self.context.load_cert_chain(*identity.files())

    def request(self, method, path, body=b"", headers=None):
        """`path` goes out as it stands; `body` as it stands if it is bytes, else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**self.headers, **(headers or {})}
        connection = RawConnection("127.0.0.1", self.port, context=self.context, timeout=ANSWER_S)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if raw or method in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(raw)))
            connection.endheaders(raw or None)
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()


def ciphertext_shape(text):
    """Version and length: nonce and key are chance."""
    found = re.fullmatch(r"vault:v([0-9]+):([A-Za-z0-9+/]+=*)", text)
    if not found:
        return f"no ciphertext: {text}" if text else ""
    return f"vault:v{found[1]} with {len(base64.b64decode(found[2]))} bytes"


def _scalar(key, value):
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value if key in VALUES else "a number"
    if key == "ciphertext":
        return ciphertext_shape(value)
    if key == "plaintext":
        return f"{len(base64.b64decode(value, validate=True))} bytes"
    if key in ("errors", "error"):
        return value if value in TEXTS else "a text"
    if key == "request_id":
        return "a UUID" if UUID.fullmatch(value) else f"no UUID: {value}"
    return value if key in VALUES else "a text"


def shape(value, key=""):
    """Keys and types, all the way down, with the values that have to be the same."""
    if key in LOOSE and value:
        return type(value).__name__
    if isinstance(value, dict):
        return {name: shape(inner, name) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape(inner, key) for inner in value]
    return _scalar(key, value)


def reduced(answer):
    """What is compared of an answer."""
    content_type = answer.headers.get("content-type") if answer.raw else None
    return {"status": answer.status, "type": content_type, "cache": answer.headers.get("cache-control"), "body": shape(answer.body)}
