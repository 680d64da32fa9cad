"""Runs last on each storage server: nothing that clients wrote can be found in the storage server's files."""

import base64
import random

import pytest
from botocore.exceptions import ClientError

from scan import encodings, places_of
from target import FACTS, marker

KINDS = ["content", "metadata", "content-type", "disposition"]


def _plant(client, bucket, key, size):
    """Writes one object of `size` bytes with a marker of its own in each place, and returns the markers by place."""
    markers = {kind: marker() for kind in KINDS}
    noise = random.randbytes(size)
    client.put_object(
        Bucket=bucket, Key=key, Body=noise[:size // 2] + markers["content"].encode() + noise[size // 2:],
        Metadata={"owner": markers["metadata"]}, ContentType=f"application/x-{markers['content-type']}",
        ContentDisposition=f"attachment; filename={markers['disposition']}",
    )
    return markers


def _returned(client, bucket, key):
    head = client.head_object(Bucket=bucket, Key=key)
    texts = {"content": client.get_object(Bucket=bucket, Key=key)["Body"].read().decode("latin-1")}
    texts |= {"metadata": str(head["Metadata"]), "content-type": head["ContentType"], "disposition": head.get("ContentDisposition", "")}
    return texts


@pytest.mark.parametrize("lead", range(5))
def test_the_search_knows_every_alignment_of_base64(lead):
    text = marker()
    hidden = base64.b64encode(random.randbytes(lead) + text.encode() + b"tail")
    assert any(form in hidden for form in encodings(text))


@pytest.mark.parametrize("hide", [
    str.encode, lambda text: text.encode("utf-16"), lambda text: text.encode().hex().encode(),
    lambda text: base64.urlsafe_b64encode(b"x" + text.encode()),
])
def test_the_search_finds_and_does_not_invent(tmp_path, hide):
    text = marker()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/file").write_bytes(random.randbytes(1000) + hide(text) + random.randbytes(1000))
    assert places_of(tmp_path, text) == [(text, tmp_path / "deep/file")]
    assert places_of(tmp_path, marker()) == []


@pytest.mark.parametrize("size", [0, 100, 65_536, 3 << 20])
def test_the_search_finds_what_is_written_around_the_proxy(target, prefix, size):
    """The positive control: the very search that must find nothing below does find plaintext."""
    markers = _plant(target.direct, target.direct_bucket, f"{prefix}object", size)
    kept = _returned(target.direct, target.direct_bucket, f"{prefix}object")
    assert markers["content"] in kept["content"]
    for kind in KINDS:
        if markers[kind] not in kept[kind]:
            FACTS.append(f"{target.name}: the storage server itself does not keep {kind}")
            continue
        assert places_of(target.folder, markers[kind]), f"{kind} written in the clear was not found in {target.folder}"


@pytest.mark.parametrize("size", [0, 100, 65_536, 3 << 20])
def test_nothing_written_through_the_proxy_is_found(target, prefix, size):
    markers = _plant(target.s3, target.bucket, f"{prefix}object", size)
    kept = _returned(target.s3, target.bucket, f"{prefix}object")
    assert all(markers[kind] in kept[kind] for kind in KINDS), "the object does not come back whole"
    assert places_of(target.folder, *markers.values()) == []


def test_nothing_of_all_that_the_clients_wrote_is_found(target):
    assert places_of(target.folder, target.marker) == []


def test_the_stored_object_says_nothing_of_the_client(target, prefix):
    markers = _plant(target.s3, target.bucket, f"{prefix}object", 100)
    stored = target.direct.get_object(Bucket=target.bucket, Key=f"{prefix}object")
    assert stored["ContentType"] in ("application/octet-stream", "binary/octet-stream")
    assert list(stored["Metadata"]) == ["claviger"]
    assert markers["content"].encode() not in stored["Body"].read()


def test_the_log_says_nothing_of_what_is_stored(target):
    assert target.demo, "no proxy, no log"
    log = target.demo.process.log.read_text(errors="replace")
    for secret in (target.marker, target.secret_key, target.exports["CLAVIGER_STORAGE_SECRET_KEY"]):
        assert secret not in log


def test_another_name_does_not_open_an_object(target, prefix):
    """What the operator copies to another key does not open there."""
    target.s3.put_object(Bucket=target.bucket, Key=f"{prefix}one", Body=b"for one alone")
    stored = target.direct.get_object(Bucket=target.bucket, Key=f"{prefix}one")
    target.direct.put_object(Bucket=target.bucket, Key=f"{prefix}two", Body=stored["Body"].read(), Metadata=stored["Metadata"])
    assert target.s3.get_object(Bucket=target.bucket, Key=f"{prefix}one")["Body"].read() == b"for one alone"
    with pytest.raises(ClientError):
        target.s3.get_object(Bucket=target.bucket, Key=f"{prefix}two")


def test_an_object_that_is_not_ours_is_refused(target, prefix):
    target.direct.put_object(Bucket=target.bucket, Key=f"{prefix}planted", Body=b"planted by the operator")
    with pytest.raises(ClientError):
        target.s3.get_object(Bucket=target.bucket, Key=f"{prefix}planted")
