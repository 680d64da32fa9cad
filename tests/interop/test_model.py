"""Random sequences of operations through two proxies at once, compared with a map in memory.

Environment, besides that of tests/interop:
  CLAVIGER_MODEL_EXAMPLES, _STEPS   how many sequences (default 3, always the same), and of how many operations (default 25)
Hypothesis prints the shortest sequence that still fails.
"""

import os
import re
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import target as targets
from model import MIB, PART, Record, Upload, content, listed, part_range
from servers import Process, clean_environment, free_ports
from target import error_code

# None is a folder of another: SeaweedFS answers 404 to a ranged GET of an empty object once there are keys below it.
KEYS = st.sampled_from(["a", "a-b", "aa", "b/ä", "b/z", "c d+e", "%41", "d/e/f/g", "d/e/h", "Z"])
SIZES = st.one_of(
    st.sampled_from([0, 1, 65_535, 65_536, 65_537, 131_072, 131_073]), st.integers(0, 300_000))
PART_SIZES = st.sampled_from([PART, PART + 1, PART + 65_536])
LAST_SIZES = st.sampled_from([0, 1, 70_000, PART - 1, PART, 6 * MIB + 7])
SEEDS = st.integers(0, 1 << 30)
KINDS = st.sampled_from(["binary/octet-stream", "text/plain; charset=utf-8", "application/x-parquet"])
METADATA = st.dictionaries(st.sampled_from(["owner", "purpose", "x"]), st.sampled_from(["a", "b c", "1,2"]), max_size=2)
WHICH = st.integers(0, 1)
SEVERAL = st.integers(0, 1 << 16)


class Bucket(RuleBasedStateMachine):
    """One sequence. Keys lie below a prefix of its own; every operation goes through one of the two proxies."""

    target, clients = None, ()

    def __init__(self):
        super().__init__()
        self.prefix = f"model-{uuid.uuid4().hex[:8]}/"
        self.records, self.uploads = {}, []

    @initialize()
    def begin(self):
        self.where = {"Bucket": self.target.bucket}

    def name(self, key):
        return {"Bucket": self.target.bucket, "Key": self.prefix + key}

    def fails(self, code, call, **arguments):
        with pytest.raises(ClientError) as raised:
            call(**arguments)
        assert error_code(raised.value) in (code if isinstance(code, tuple) else (code,)), raised.value

    # Writing.

    @rule(key=KEYS, size=SIZES, seed=SEEDS, kind=KINDS, metadata=METADATA, via=WHICH)
    def put(self, key, size, seed, kind, metadata, via):
        body = content(seed, size)
        done = self.clients[via].put_object(**self.name(key), Body=body, ContentType=kind, Metadata=metadata)
        self.records[key] = Record(body, kind, metadata, done["ETag"])

    @rule(key=KEYS, size=SIZES, seed=SEEDS, via=WHICH)
    def put_if_absent(self, key, size, seed, via):
        body = content(seed, size)
        arguments = {**self.name(key), "Body": body, "ContentType": "text/plain", "IfNoneMatch": "*"}
        if key in self.records:
            self.fails("PreconditionFailed", self.clients[via].put_object, **arguments)
        else:
            done = self.clients[via].put_object(**arguments)
            self.records[key] = Record(body, "text/plain", {}, done["ETag"])

    @rule(key=KEYS, source=KEYS, replace=st.booleans(), kind=KINDS, metadata=METADATA, via=WHICH)
    def copy(self, key, source, replace, kind, metadata, via):
        arguments = {**self.name(key), "CopySource": self.name(source)}
        if replace:
            arguments |= {"MetadataDirective": "REPLACE", "ContentType": kind, "Metadata": metadata}
        if source == key and not replace:
            # Whether there is such an object or not.
            self.fails("InvalidRequest", self.clients[via].copy_object, **arguments)
            return
        if source not in self.records:
            self.fails("NoSuchKey", self.clients[via].copy_object, **arguments)
            return
        done = self.clients[via].copy_object(**arguments)
        of = self.records[source]
        said = (kind, metadata) if replace else (of.kind, of.metadata)
        self.records[key] = Record(of.body, *said, done["CopyObjectResult"]["ETag"], of.parts)

    @rule(key=KEYS, via=WHICH)
    def delete(self, key, via):
        self.clients[via].delete_object(**self.name(key))
        self.records.pop(key, None)

    @rule(keys=st.sets(KEYS, min_size=1, max_size=4), via=WHICH)
    def delete_several(self, keys, via):
        named = [{"Key": self.prefix + key} for key in sorted(keys)]
        done = self.clients[via].delete_objects(**self.where, Delete={"Objects": named})
        assert not done.get("Errors"), done
        for key in keys:
            self.records.pop(key, None)

    # Uploads in parts.

    @rule(key=KEYS, kind=KINDS, metadata=METADATA, via=WHICH)
    def create_upload(self, key, kind, metadata, via):
        done = self.clients[via].create_multipart_upload(**self.name(key), ContentType=kind, Metadata=metadata)
        self.uploads.append(Upload(key, done["UploadId"], kind, metadata))

    def at(self, upload):
        return {**self.name(upload.key), "UploadId": upload.id}

    @precondition(lambda self: self.uploads)
    @rule(which=SEVERAL, number=st.sampled_from([1, 2, 3, 7, 9_999]), size=PART_SIZES, seed=SEEDS, via=WHICH)
    def upload_part(self, which, number, size, seed, via):
        self._upload(self.uploads[which % len(self.uploads)], number, content(seed, size), via)

    @precondition(lambda self: self.uploads)
    @rule(which=SEVERAL, number=st.sampled_from([8, 10_000]), size=LAST_SIZES, seed=SEEDS, via=WHICH)
    def upload_last_part(self, which, number, size, seed, via):
        self._upload(self.uploads[which % len(self.uploads)], number, content(seed, size), via)

    def _upload(self, upload, number, body, via):
        done = self.clients[via].upload_part(**self.at(upload), PartNumber=number, Body=body)
        upload.parts[number] = (done["ETag"], body)

    @precondition(lambda self: self.uploads)
    @rule(which=SEVERAL, source=KEYS, number=st.sampled_from([4, 10_000]), cut=st.booleans(), via=WHICH)
    def upload_part_copy(self, which, source, number, cut, via):
        upload = self.uploads[which % len(self.uploads)]
        arguments = {**self.at(upload), "PartNumber": number, "CopySource": self.name(source)}
        if source not in self.records:
            self.fails("NoSuchKey", self.clients[via].upload_part_copy, **arguments)
            return
        body = self.records[source].body
        if cut and len(body) > 2:
            first, last = len(body) // 3, len(body) - 2
            arguments["CopySourceRange"], body = f"bytes={first}-{last}", body[first:last + 1]
        done = self.clients[via].upload_part_copy(**arguments)
        upload.parts[number] = (done["CopyPartResult"]["ETag"], body)

    @precondition(lambda self: self.uploads)
    @rule(which=SEVERAL, page=st.sampled_from([1, 2, 1000]), via=WHICH)
    def list_parts(self, which, page, via):
        upload = self.uploads[which % len(self.uploads)]
        found, marker = [], 0
        while True:
            done = self.clients[via].list_parts(**self.at(upload), MaxParts=page, PartNumberMarker=marker)
            found += [(part["PartNumber"], part["ETag"], part["Size"]) for part in done.get("Parts", [])]
            if not done["IsTruncated"]:
                break
            marker = done["NextPartNumberMarker"]
        assert found == [(number, etag, len(body)) for number, (etag, body) in sorted(upload.parts.items())]

    @precondition(lambda self: self.uploads)
    @rule(which=SEVERAL, left_out=st.sets(st.sampled_from([1, 2, 3, 4, 7, 8])), twice=st.booleans(), via=WHICH)
    def complete(self, which, left_out, twice, via):
        upload = self.uploads[which % len(self.uploads)]
        chosen = [(number, *part) for number, part in sorted(upload.parts.items()) if number not in left_out]
        arguments = {**self.at(upload), "MultipartUpload": {
            "Parts": [{"PartNumber": number, "ETag": etag} for number, etag, _ in chosen]}}
        if not chosen:
            self.fails(("MalformedXML", "InvalidRequest"), self.clients[via].complete_multipart_upload, **arguments)
            return
        if any(len(body) < PART for _, _, body in chosen[:-1]):
            self.fails("EntityTooSmall", self.clients[via].complete_multipart_upload, **arguments)
            return
        done = self.clients[via].complete_multipart_upload(**arguments)
        if twice:
            again = self.clients[1 - via].complete_multipart_upload(**arguments)
            assert again["ETag"] == done["ETag"]
        self.uploads.remove(upload)
        bodies = [body for _, _, body in chosen]
        whole = b"".join(bodies)
        self.records[upload.key] = Record(
            whole, upload.kind, upload.metadata, done["ETag"], {number: len(body) for number, _, body in chosen} if whole else {})

    @precondition(lambda self: self.uploads)
    @rule(which=SEVERAL, via=WHICH)
    def abort(self, which, via):
        upload = self.uploads.pop(which % len(self.uploads))
        self.clients[via].abort_multipart_upload(**self.at(upload))
        self.fails("NoSuchUpload", self.clients[1 - via].list_parts, **self.at(upload))

    # Reading.

    def about(self, answer, record):
        said = (answer["ETag"], answer["ContentType"], answer["Metadata"])
        assert said == (record.etag, record.kind, record.metadata)

    @rule(key=KEYS, via=WHICH)
    def get(self, key, via):
        if key not in self.records:
            self.fails("NoSuchKey", self.clients[via].get_object, **self.name(key))
            return
        record = self.records[key]
        done = self.clients[via].get_object(**self.name(key), IfMatch=record.etag)
        assert done["Body"].read() == record.body
        self.about(done, record)
        self.fails("304", self.clients[via].get_object, **self.name(key), IfNoneMatch=record.etag)
        self.fails("PreconditionFailed", self.clients[via].get_object, **self.name(key), IfMatch='"other"')

    @precondition(lambda self: self.records)
    @rule(which=SEVERAL, first=st.integers(0, 12 * MIB), count=st.integers(1, 200_000), form=st.integers(0, 2), via=WHICH)
    def get_range(self, which, first, count, form, via):
        key, record = self.some(which)
        length = len(record.body)
        if length == 0:
            self.fails("InvalidRange", self.clients[via].get_object, **self.name(key), Range="bytes=0-")
            return
        first %= length
        asked, expected = [
            (f"bytes={first}-{first + count - 1}", record.body[first:first + count]),
            (f"bytes={first}-", record.body[first:]),
            (f"bytes=-{count}", record.body[-count:]),
        ][form]
        done = self.clients[via].get_object(**self.name(key), Range=asked)
        body = done["Body"].read()
        begin = length - len(expected) if form == 2 else first
        assert (body == expected, done["ContentRange"]) == (True, f"bytes {begin}-{begin + len(expected) - 1}/{length}")

    @precondition(lambda self: any(record.parts for record in self.records.values()))
    @rule(which=SEVERAL, number=SEVERAL, via=WHICH)
    def get_part(self, which, number, via):
        in_parts = sorted(key for key, record in self.records.items() if record.parts)
        record = self.records[in_parts[which % len(in_parts)]]
        key = in_parts[which % len(in_parts)]
        number = record.numbers[number % len(record.numbers)]
        start, end = part_range(record, number)
        head = self.clients[via].head_object(**self.name(key), PartNumber=number)
        assert (head["PartsCount"], head["ContentLength"]) == (len(record.parts), end - start)
        if start < end:
            done = self.clients[via].get_object(**self.name(key), PartNumber=number)
            assert done["Body"].read() == record.body[start:end]

    def some(self, which):
        keys = sorted(self.records)
        return keys[which % len(keys)], self.records[keys[which % len(keys)]]

    @precondition(lambda self: self.records)
    @rule(which=SEVERAL, via=WHICH)
    def head(self, which, via):
        key, record = self.some(which)
        done = self.clients[via].head_object(**self.name(key))
        assert done["ContentLength"] == len(record.body)
        self.about(done, record)

    @rule(prefix=st.sampled_from(["", "a", "a/", "b/", "d/e/", "nothing"]), delimiter=st.sampled_from(["", "/"]),
          page=st.sampled_from([1, 2, 3, 1000]), version=st.sampled_from(["v1", "v2"]), via=WHICH)
    def listing(self, prefix, delimiter, page, version, via):
        expected = listed(self.records, prefix, delimiter)
        client, found = self.clients[via], []
        name = "list_objects" if version == "v1" else "list_objects_v2"
        for done in client.get_paginator(name).paginate(
                **self.where, Prefix=self.prefix + prefix, PaginationConfig={"PageSize": page},
                **({"Delimiter": delimiter} if delimiter else {})):
            entries = done.get("Contents", [])
            assert len(entries) + len(done.get("CommonPrefixes", [])) <= page
            for entry in entries:
                key = entry["Key"][len(self.prefix):]
                found.append(("key", key))
                assert (entry["Size"], entry["ETag"]) == (len(self.records[key].body), self.records[key].etag)
            found += [("prefix", common["Prefix"][len(self.prefix):]) for common in done.get("CommonPrefixes", [])]
        assert sorted(found) == sorted(expected)

    @rule(via=WHICH)
    def list_uploads(self, via):
        found = [
            (upload["Key"], upload["UploadId"])
            for done in self.clients[via].get_paginator("list_multipart_uploads").paginate(**self.where, Prefix=self.prefix)
            for upload in done.get("Uploads", [])
        ]
        assert sorted(found) == sorted((self.prefix + upload.key, upload.id) for upload in self.uploads)

    def teardown(self):
        for upload in self.uploads:
            self.clients[0].abort_multipart_upload(**self.at(upload))
        if self.records:
            named = [{"Key": self.prefix + key} for key in self.records]
            self.clients[0].delete_objects(**self.where, Delete={"Objects": named})


@pytest.fixture
def second_proxy(target, tmp_path):
    """A client of one more proxy with the demo's configuration, at the same custodian and storage server."""
    if target.demo is None:
        yield target.s3
        return
    # For clients and for metrics.
    port, *_ = ports = free_ports(2)
    given, addresses = Path(target.exports["CLAVIGER_CONFIG"]), iter(ports)
    text, count = re.subn(r'(?m)^listen = ".*"', lambda _: f'listen = "127.0.0.1:{next(addresses)}"', given.read_text())
    assert count == 2, f"{count} addresses in {given}"
    # A log has one writer.
    text = re.sub(r'(?m)^folder = "(.*)"', r'folder = "\1-second"', text)
    config = given.with_name("second-proxy.toml")
    config.touch(mode=0o600)
    config.write_text(text)
    process = Process("second-proxy", [target.demo.binary, "proxy", "--config", config], tmp_path, clean_environment(tmp_path))
    try:
        process.wait_until(lambda: "the proxy serves" in process.log_tail(), "line that says it serves")
        url = f"https://localhost:{port}"
        yield targets.s3_client(url, target.access_key, target.secret_key, target.region, target.ca)
        process.terminate()
    finally:
        process.kill()


@pytest.mark.backends("seaweedfs", "direct")
def test_two_proxies_are_one_map(target, second_proxy):
    examples, steps = (int(os.environ.get(f"CLAVIGER_MODEL_{name}", default)) for name, default in (("EXAMPLES", 3), ("STEPS", 25)))
    Bucket.target, Bucket.clients = target, (target.s3, second_proxy)
    how = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, print_blob=True,
        derandomize="CLAVIGER_MODEL_EXAMPLES" not in os.environ, report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate, Phase.shrink))
    run_state_machine_as_test(Bucket, settings=how)
