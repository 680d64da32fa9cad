"""Which secrets lie in the memory of proxy and custodian, as the machine's administrator could read it: what is in use, and nothing of what is over."""

import gc
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from deployment import Deployment
from memory import Memory, expanded
from opened_store import OpenedObject, OpenedStore, Share, derived
from target import FACTS, marker, s3_client

BUCKET = "key-memory"
LARGE = 24 << 20
# After the custodian told of a change, and after the last answer of it: see src/transit/connections.rs.
TOLD_S, IDLE_S = 1.5, 11
# The interpreter's cryptographic library expands a key as ours does, and has it as long as the encryptor is there.
CONTROL = """
import sys
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
text = sys.stdin.readline()
encryptor = Cipher(algorithms.AES(bytes.fromhex(text)), modes.CTR(bytes(16))).encryptor()
encryptor.update(bytes(64))
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("length", [16, 32])
def test_the_search_finds_a_key_schedule_in_another_process(length):
    key, other = random.randbytes(length), random.randbytes(length)
    with subprocess.Popen([sys.executable, "-c", CONTROL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        print(key.hex(), file=child.stdin, flush=True)
        assert child.stdout.readline() == "ready\n"
        memory = Memory(child.pid)
        child.stdin.close()
    assert key in memory.aes_keys(), "a schedule that is there was not found"
    assert memory.places(key) and memory.places(key.hex().encode())
    assert other not in memory.aes_keys() and not memory.places(other)


@pytest.mark.parametrize(("key", "last"), [
    ("2b7e151628aed2a6abf7158809cf4f3c", "d014f9a8c9ee2589e13f0cc8b6630ca6"),
    ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "fe4890d1e6188d0b046df344706c631e"),
])
def test_keys_are_expanded_as_in_the_appendix_of_fips_197(key, last):
    assert expanded(bytes.fromhex(key))[-16:].hex() == last


class Scene:
    """A deployment that was used; which of its secrets were where at which moment is in `seen`, by moment and name, as lists of places."""

    def __init__(self, deployment, weed):
        self.deployment = deployment
        self.seen, self.schedules, self.sizes = {}, {}, {}
        self.storage = s3_client(weed.url, weed.access_key, weed.secret_key)
        self.customer = random.randbytes(32)
        self.markers = {name: marker().encode() for name in ("small", "large", "own key", "user metadata", "after")}
        self.lasting = {"the client's secret key": deployment.credentials()[1].encode(),
                        "the storage server's secret key": weed.secret_key.encode()}

    def use(self, s3):
        """Small and large, with the client's own key, before and after a rotation."""
        s3.create_bucket(Bucket=BUCKET)
        own = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": self.customer}
        large = bytearray(random.randbytes(LARGE))
        for at in range(0, LARGE - 100, 64 << 10):
            large[at:at + 24] = self.markers["large"]
        s3.put_object(Bucket=BUCKET, Key="small", Body=b"<" + self.markers["small"] + b">")
        s3.put_object(Bucket=BUCKET, Key="large", Body=bytes(large))
        s3.put_object(Bucket=BUCKET, Key="own key", Body=self.markers["own key"],
                      Metadata={"owner": self.markers["user metadata"].decode()}, **own)
        self.deployment.must("key", "rotate", "records")
        s3.put_object(Bucket=BUCKET, Key="after", Body=self.markers["after"])
        for key in ("small", "large", "own key", "after"):
            body = s3.get_object(Bucket=BUCKET, Key=key, **(own if key == "own key" else {}))["Body"].read()
            assert self.markers[key] in body

    def learn(self):
        """All keys that there are, as whoever has the shares and the storage server's objects can know them."""
        folder = self.deployment.dir
        database, = (path for path in folder.rglob("*") if path.is_file() and path.open("rb").read(15) == b"SQLite format 3")
        shares = [Share(path.read_text()) for path in self.deployment.shares]
        store = OpenedStore(database, shares[:2])
        self.custody = {"the root key": store.root, "the seal's wrapping key": store.wrapping}
        self.custody |= {f"the key of {name}": key for name, key in store.barrier.items()}
        self.custody |= {f"KEK version {version}": key for version, key in store.keks["records"].items()}
        self.shares = {f"share {share.index}": share.value for share in shares}
        assert len(store.keks["records"]) == 2 and len(store.branches) >= 2
        self.branches = {f"branch key {number}": key for number, key in enumerate(store.branches.values())}
        self.requests = {"the customer's key": self.customer}
        for key in ("small", "large", "own key", "after"):
            envelope = self.storage.head_object(Bucket=BUCKET, Key=key)["Metadata"]["claviger"]
            found = OpenedObject(store, envelope, BUCKET, key, self.customer if key == "own key" else None)
            self.requests |= {f"{key}: DEK": found.dek, f"{key}: header key": found.header_key,
                              f"{key}: content key": found.content_key, f"{key}: footer key": found.footer_key}
        self.requests["own key: wrapping key"] = found_wrapping(store, self)
        self.plaintext = {f"plaintext: {name}": text for name, text in self.markers.items()}
        self.private = {path.name: scalar(path) for path in (folder / "certs").rglob("*.key")}
        assert {"proxy-client.key", "custodian.key"} <= set(self.private), sorted(self.private)

    def look(self, moment, process):
        memory = Memory(process.child.pid)
        secrets = self.custody | self.shares | self.branches | self.requests | self.plaintext | self.private | self.lasting
        found = memory.aes_keys()
        self.seen[moment] = {name: memory.places(secret) for name, secret in secrets.items()}
        names = {secret: name for name, secret in secrets.items()}
        self.schedules[moment] = {names[key] for key in found if key in names}
        self.sizes[moment] = len(memory)
        FACTS.append(f"key memory: {moment}: {len(found)} AES key schedules in {len(memory) >> 20} MiB; "
                     + (", ".join(f"{name} ({len(places)})" for name, places in self.seen[moment].items() if places) or "no known secret"))

    def left(self, moment, *groups):
        """Those of the secrets that were there, with their places."""
        names = {name for group in groups for name in group}
        return {name: places for name, places in self.seen[moment].items() if places and name in names}


def found_wrapping(store, scene):
    envelope = scene.storage.head_object(Bucket=BUCKET, Key="own key")["Metadata"]["claviger"]
    branch_key = OpenedObject(store, envelope, BUCKET, "own key", scene.customer).branch_key
    return derived(branch_key, b"claviger/1 customer", salt=scene.customer)


def scalar(path):
    """A private key as the number that it is."""
    return serialization.load_pem_private_key(path.read_bytes(), None).private_numbers().private_value.to_bytes(32)


def connections(port):
    """How many sockets still serve somebody who connected to `port`."""
    established, close_wait = "01", "08"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(f":{port:04X}") and line[3] in (established, close_wait) for line in lines)


@pytest.fixture(scope="module")
def scene(weed, tmp_path_factory):
    deployment = Deployment(tmp_path_factory.mktemp("key-memory"), (weed.url, weed.access_key, weed.secret_key))
    deployment.edit("proxy.toml", r'state_bucket = ".*"', 'state_bucket = "key-memory-state"')
    try:
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        s3 = deployment.start_proxy()
        scene = Scene(deployment, weed)
        scene.use(s3)
        scene.learn()
        body = s3.get_object(Bucket=BUCKET, Key="large")["Body"]
        body.read(100)
        scene.look("proxy, while a download stands still", deployment.proxy)
        body.read()
        scene.look("proxy, with its client's connections open", deployment.proxy)
        # It holds on to its connection, until it is collected.
        del body
        s3.close()
        gc.collect()
        deployment.proxy.wait_until(lambda: not connections(deployment.proxy_port), "end of its client's connections")
        time.sleep(0.2)
        scene.look("proxy, after its client left", deployment.proxy)
        scene.look("custodian, unsealed", deployment.custodian)
        deployment.must("key", "disable", "records")
        time.sleep(max(TOLD_S, IDLE_S))
        scene.look("proxy, after the KEK was disabled", deployment.proxy)
        deployment.must("seal")
        time.sleep(0.5)
        scene.look("custodian, sealed", deployment.custodian)
        yield scene
    finally:
        deployment.kill()


OF_PROXY = ["proxy, while a download stands still", "proxy, with its client's connections open", "proxy, after its client left",
            "proxy, after the KEK was disabled"]


def test_what_is_in_use_is_found(scene):
    """Without which nothing below would say anything. It is also the honest answer: whoever can read this memory has it."""
    downloading, custodian = scene.seen[OF_PROXY[0]], scene.seen["custodian, unsealed"]
    assert "large: content key" in scene.schedules[OF_PROXY[0]], "the key that a download is decrypted with"
    assert any(downloading[name] for name in scene.branches), "the branch keys that are leased"
    assert all(downloading[name] for name in scene.lasting), "what requests are verified and signed with"
    assert all(custodian[name] for name in ("KEK version 1", "KEK version 2", "the key of kek rows", "the key of branch rows"))


@pytest.mark.parametrize("moment", OF_PROXY)
def test_nothing_that_the_custodian_keeps_is_ever_in_the_proxy(scene, moment):
    assert scene.left(moment, scene.custody, scene.shares) == {}


@pytest.mark.parametrize("moment", OF_PROXY[2:])
def test_nothing_of_requests_that_are_over_is_left_in_the_proxy(scene, moment):
    """Neither keys and their schedules nor what was stored, on heap and stacks, in whoever's buffers."""
    assert scene.left(moment, scene.requests, scene.plaintext) == {}
    assert scene.schedules[moment] & scene.requests.keys() == set()


def test_keys_of_ended_requests_are_gone_though_the_client_stays(scene):
    """What a client sent or got last may lie in the buffers of its connection; keys of ours do not."""
    ours = scene.requests.keys() - {"the customer's key"}
    assert scene.left(OF_PROXY[1], ours) == {}
    assert scene.schedules[OF_PROXY[1]] & ours == set()


def test_a_disabled_kek_leaves_no_branch_key_in_the_proxy(scene):
    moment = OF_PROXY[3]
    assert scene.left(moment, scene.branches) == {}
    assert scene.schedules[moment] & scene.branches.keys() == set()


@pytest.mark.parametrize("moment", ["custodian, unsealed", "custodian, sealed"])
def test_shares_and_what_they_open_are_gone_once_the_custodian_is_open(scene, moment):
    assert scene.left(moment, scene.shares, ["the root key", "the seal's wrapping key"]) == {}


def test_a_sealed_custodian_has_no_key(scene):
    moment = "custodian, sealed"
    assert scene.left(moment, scene.custody, scene.branches) == {}
    assert not scene.schedules[moment], "no schedule of a key of ours"


@pytest.mark.parametrize("moment", [*OF_PROXY, "custodian, unsealed", "custodian, sealed"])
def test_private_keys_are_nowhere_as_they_stand_in_their_files(scene, moment):
    """The library has them in a form of its own, for as long as the process runs."""
    assert scene.left(moment, scene.private) == {}
