"""The custodian's store opened from outside: with shares of its seal, and from what src/custodian says of its form. So a test knows each key that there is."""

import base64
import hashlib
import sqlite3

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derived(key, info, length=32, salt=None):
    """HKDF-SHA256 of RFC 5869."""
    return HKDF(hashes.SHA256(), length, salt, info).derive(key)


def opened(key, aad, sealed):
    """The plaintext of nonce ‖ ciphertext ‖ tag."""
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], aad)


def cbor(value):
    """Deterministic CBOR (RFC 8949) of what is needed here."""
    match value:
        case int():
            return _head(0, value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case list():
            return _head(4, len(value)) + b"".join(cbor(item) for item in value)
        case dict():
            return _head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())


def _head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    size = next(size for size in range(4) if number < 1 << (8 << size))
    return bytes([major << 5 | 24 + size]) + number.to_bytes(1 << size)


def uncbor(data):
    """The one value in `data`."""
    value, rest = _read(memoryview(data))
    assert not rest, "there are bytes after the end"
    return value


def _read(data):
    major, number, data = data[0] >> 5, data[0] & 31, data[1:]
    if number >= 24 and major != 7:
        size = 1 << number - 24
        number, data = int.from_bytes(data[:size]), data[size:]
    match major:
        case 0:
            return number, data
        case 1:
            return -1 - number, data
        case 2:
            return bytes(data[:number]), data[number:]
        case 3:
            return bytes(data[:number]).decode(), data[number:]
        case 7:
            return {20: False, 21: True, 22: None}[number], data
    items = []
    for _ in range(number * (1 if major == 4 else 2)):
        item, data = _read(data)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2]))), data


class Share:
    """version 1 ‖ seal 16 ‖ index 1 ‖ value 32 ‖ checksum 4, in base64."""

    def __init__(self, text):
        self.text = text.strip()
        raw = base64.b64decode(self.text, validate=True)
        assert len(raw) == 54 and raw[0] == 1 and hashlib.sha256(raw[:50]).digest()[:4] == raw[50:], "not a share"
        self.seal, self.index, self.value = raw[1:17], raw[17], raw[18:50]


def _times(one, other):
    """The product in GF(2^8) with the polynomial of AES."""
    product = 0
    while other:
        product ^= one * (other & 1)
        one = (one << 1) ^ (0x11b * (one >> 7))
        other >>= 1
    return product


def combined(shares):
    """Lagrange's interpolation at zero, for each of the 32 bytes."""
    secret = bytes(32)
    for share in shares:
        weight = 1
        for other in shares:
            if other is not share:
                inverse = next(byte for byte in range(1, 256) if _times(byte, other.index ^ share.index) == 1)
                weight = _times(weight, _times(other.index, inverse))
        secret = bytes(sum_ ^ _times(byte, weight) for sum_, byte in zip(secret, share.value))
    return secret


class OpenedStore:
    """All keys of a store: `wrapping`, `root`, `barrier` by name, `keks` by name and version, `branches` by id."""

    def __init__(self, database, shares):
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        try:
            records = connection.execute("SELECT kind, id, version, sealed FROM records").fetchall()
            branches = connection.execute("SELECT id, kek, kek_version, sealed FROM branches").fetchall()
        finally:
            connection.close()
        self.wrapping = combined(shares)
        self.root = self._root(next(sealed for kind, _, _, sealed in records if kind == "seals"), shares[0].seal)
        self.barrier = {}
        self.keks = {}
        for kind, row, version, sealed in records:
            if kind == "kek":
                _, name, _, _, body = uncbor(self._row(kind, row, version.to_bytes(8), sealed))
                self.keks[name] = {number: key for number, _, key in uncbor(body)[-1]}
        self.branches = {}
        for row, kek, version, sealed in branches:
            _, branch, name, version, wrapped, context, *_ = uncbor(self._row("branch", row, kek + version.to_bytes(4), sealed))
            self.branches[branch] = opened(self.data_key(name, version, context), b"", wrapped)

    def data_key(self, kek, version, context):
        """What a derived KEK encrypts under for that context."""
        return derived(self.keks[kek][version], context)

    def _root(self, seals, seal):
        _, seals, mac = uncbor(seals)
        found = next(found for found in seals if found[0] == seal)
        root = opened(self.wrapping, cbor(["claviger/1 seal", *found[:-1]]), found[-1])
        check = hmac.HMAC(derived(root, b"claviger/1 seals"), hashes.SHA256())
        check.update(cbor(["claviger/1 seals", seals]))
        check.verify(mac)
        return root

    def _row(self, kind, row, place, sealed):
        rows = self.barrier.setdefault(f"{kind} rows", derived(self.root, f"claviger/1 barrier {kind} rows".encode()))
        return opened(derived(rows, row), cbor(["claviger/1 row", kind, row, place]), sealed)


class OpenedObject:
    """The keys of a stored object, out of the envelope in its metadata: `dek`, `header_key`, `content_key` and `footer_key`."""

    def __init__(self, store, envelope, bucket, key, customer_key=None):
        fields = uncbor(base64.urlsafe_b64decode(envelope + "=" * (-len(envelope) % 4)))
        self.branch_key = store.branches[fields[2][0]]
        bound = cbor({number: value for number, value in fields.items() if number not in (3, 4, 7)})
        parts = [b"claviger/1 edek", b"object", bucket.encode(), key.encode(), b"", bound]
        aad = b"".join(len(part).to_bytes(8) + part for part in parts)
        wrapping = self.branch_key
        if customer_key:
            wrapping = derived(self.branch_key, b"claviger/1 customer", salt=customer_key)
        self.wrapping = wrapping
        keys = opened(wrapping, aad, fields[4])
        self.dek, self.header_key = keys[:32], keys[32:]
        self.content_key = derived(self.dek, b"claviger/1 content")
        self.footer_key = derived(self.dek, b"claviger/1 footer")
        assert derived(self.dek, b"claviger/1 commitment") == fields[5], "the envelope's commitment is another one"
