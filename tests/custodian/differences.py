"""Where the custodian differs from OpenBao, and why. Each entry is checked: one that is no difference any more has to go."""

from dataclasses import dataclass


@dataclass
class Difference:
    """What the custodian answers in the place of OpenBao's answer."""

    reason: str
    status: int


def _all(scenario, reason, status, *steps):
    return {(scenario, step): Difference(reason, status) for step in steps}


ONE_TEXT = "a ciphertext has one text: 0, signs and numbers beyond 32 bits are no versions"
NO_ALGORITHM = "an error does not tell the algorithm"
OUR_FAULT = "what is wrong with a request is 400; OpenBao makes some of it its own fault, 500"
ONE_READING = "JSON that two readers may take differently is refused"
LITERAL = "a path is taken literally: what would have to be decoded or tidied up is refused, never redirected"
NAMES = "names of keys are 1 to 64 letters, digits, '_' or '-'"
NO_SLASH = "a path that ends in a slash names nothing, but for the list of keys"
ABSENT = "it is not there; only OpenBao's policy, whoever asks, or its wider choice makes that another answer"
METHODS = "a method that a path does not have is 405 everywhere"
CERTIFICATE = "the certificate is the identity, a token is not needed"
INCREMENT = "a token is renewed for the whole of its time, whatever increment is asked for"

# By scenario and step.
DIFFERENCES = {
    **_all("keys", "a key that exists is told with a warning, as Vault does", 200, "create again", "create again with another type"),
    **_all("keys", METHODS, 405, "HEAD of a key", "PATCH of a key"),
    **_all("ciphertexts", ONE_TEXT, 400, "version with a sign", "version negative", "version 0", "version huge"),
    **_all("ciphertexts", "a number is no text", 400, "a number"),
    **_all("ciphertexts", NO_ALGORITHM, 400, "tag changed with ChaCha", "of another key"),
    **_all("chacha20-poly1305", NO_ALGORITHM, 400, "other context", "other data", "no data", "rewrap"),
    **{key: value for key_type in ("aes256-gcm96", "aes128-gcm96", "chacha20-poly1305")
       for key, value in _all(key_type, OUR_FAULT, 400, "bad base64 in data").items()},
    **_all("batches", OUR_FAULT, 400, "not a list", "an item that is no object", "an item without a plaintext", "an item without a ciphertext"),
    **_all("deletion", OUR_FAULT, 400, "rotate while set aside"),
    **_all("deletion", "that it was so already is no warning", 200, "set aside again", "restore again"),
    **_all("JSON", ONE_READING, 400, "two objects", "a name twice", "not UTF-8", "half a surrogate"),
    **_all("paths", LITERAL, 400, *(f"POST {path}" for path in (
        "encrypt/a/../path", "encrypt/./path", "encrypt//path", "/v1//transit/encrypt/path", "/v1/transit/../transit/encrypt/path",
        "/v1/../v1/transit/encrypt/path", "/v1/sys/../transit/encrypt/path", "encrypt/%70ath", "encrypt/path%00", "encrypt/path%0a",
        "encrypt/path%20", "encrypt/p%C3%A4th", "encrypt/path;x", "encrypt/path%3fx", "encrypt/path%", "encrypt/path%zz", "encrypt/..",
        "encrypt\\path", "encrypt/" + "p" * 4000))),
    **_all("paths", LITERAL, 400, *(f"create {path}" for path in (
        "keys/..", "keys/.", "keys/a%2fb", "keys/a%00", "keys//a", "keys/ä".encode().decode("latin-1")))),
    **_all("paths", NAMES, 400, "POST encrypt/-path"),
    **_all("paths", NO_SLASH, 404, "POST encrypt/", "POST encrypt/path/", "POST /v1/transit/", "create keys/a/"),
    **_all("paths", ABSENT, 404, *(f"POST {path}" for path in (
        "/v2/transit/encrypt/path", "/transit/encrypt/path", "/v1/", "/v1", "/", "/v1/nowhere/x", "/v1/Transit/encrypt/path",
        "random/16", "hash/sha2-256"))),
    **_all("paths", METHODS, 405, "LIST encrypt", "OPTIONS", "an unknown method"),
    **_all("system", "what is no share is refused even when none is needed", 400, "unseal when unsealed"),
    **_all("tokens", CERTIFICATE, 200, "no token", "an empty token"),
    **_all("tokens", INCREMENT, 200, "renew with an increment"),
    **_all("sealing", "whoever gives a share twice is told", 400, "the same share again"),
}

# Fields that the custodian has and OpenBao has not, by their place in the answer.
ADDITIONS = {
    "data.claviger": "whether a KEK is switched off, and its labels",
    "claviger": "how log and store are, and how far the store is",
}
