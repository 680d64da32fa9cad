"""The Rust library object_store, through its Python binding obstore."""

import json
import subprocess
import sys

import pytest

import files
from files import LARGE, PART
from servers import clean_environment

# In a process of its own: it takes its endpoint, its keys and the certificates that it trusts from the environment alone.
SCRIPT = """
import hashlib, json, sys
import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError
from obstore.store import S3Store

bucket, prefix, path, part = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
store = S3Store(bucket, prefix=prefix, client_options={"allow_http": True})
data = open(path, "rb").read()
digest = lambda body: hashlib.sha256(body).hexdigest()
said = {}

obstore.put(store, "large", data, chunk_size=part, max_concurrency=4, attributes={"Content-Type": "application/x-claviger-test", "color": "blue"})
got = obstore.get(store, "large")
said["attributes"] = {name.lower(): value for name, value in got.attributes.items()}
said["large"] = digest(bytes(got.bytes()))
said["size"] = obstore.head(store, "large")["size"]
said["range"] = bytes(obstore.get_range(store, "large", start=part - 10, end=part + 10)) == data[part - 10:part + 10]
starts = [0, part, len(data) - 10]
said["ranges"] = [bytes(one) for one in obstore.get_ranges(store, "large", starts=starts, lengths=[10] * 3)] == [data[at:at + 10] for at in starts]

with obstore.open_writer(store, "streamed", buffer_size=part) as writer:
    for start in range(0, len(data), 700_000):
        writer.write(data[start:start + 700_000])
said["streamed"] = digest(bytes(obstore.get(store, "streamed").bytes()))
reader = obstore.open_reader(store, "streamed")
reader.seek(part - 5)
said["reader"] = bytes(reader.read(10)) == data[part - 5:part + 5]

obstore.copy(store, "large", "copied")
obstore.rename(store, "copied", "renamed")
said["renamed"] = digest(bytes(obstore.get(store, "renamed").bytes()))
try:
    obstore.get(store, "copied")
    said["copied"] = "still there"
except (NotFoundError, FileNotFoundError):
    said["copied"] = "gone"

obstore.put(store, "new", b"1", mode="create")
try:
    obstore.put(store, "new", b"2", mode="create")
    said["create"] = "replaced"
except AlreadyExistsError:
    said["create"] = "refused"
etag = obstore.head(store, "new")["e_tag"]
obstore.put(store, "new", b"3", mode={"e_tag": etag})
said["update"] = bytes(obstore.get(store, "new").bytes()).decode()

for number in range(30):
    obstore.put(store, f"many/{number:02}", b"x" * number)
said["listed"] = [[one["path"], one["size"]] for batch in obstore.list(store, "many", chunk_size=7) for one in batch]
said["after"] = [one["path"] for batch in obstore.list(store, "many", offset="many/27") for one in batch]
said["folders"] = list(obstore.list_with_delimiter(store)["common_prefixes"])
said["signed"] = obstore.sign(store, "GET", "new", expires_in=__import__("datetime").timedelta(minutes=5))
obstore.delete(store, [f"many/{number:02}" for number in range(30)])
said["left"] = sorted(one["path"] for batch in obstore.list(store) for one in batch)
print(json.dumps(said))
"""


@pytest.mark.embedded
def test_object_store_does_all_that_it_can(target, prefix, tmp_path):
    wanted = files.write(target, tmp_path / "up", LARGE)
    exports = {name: value for name, value in target.exports.items() if name.startswith("AWS_") and value}
    ca = {"SSL_CERT_FILE": target.ca} if target.ca else {}
    command = [sys.executable, "-c", SCRIPT, target.bucket, prefix, str(tmp_path / "up"), str(PART)]
    done = subprocess.run(command, env=clean_environment(tmp_path, **exports, **ca), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {said[name] for name in ("large", "streamed", "renamed")} == {wanted}
    assert said["size"] == LARGE and said["range"] and said["ranges"] and said["reader"]
    assert said["attributes"]["content-type"] == "application/x-claviger-test"
    assert said["attributes"]["color"] == "blue"
    assert (said["copied"], said["create"], said["update"]) == ("gone", "refused", "3")
    assert said["listed"] == [[f"many/{number:02}", number] for number in range(30)]
    assert said["after"] == ["many/28", "many/29"]
    assert [folder.rstrip("/") for folder in said["folders"]] == ["many"]
    assert said["left"] == ["large", "new", "renamed", "streamed"]
    assert "X-Amz-Signature=" in said["signed"]
    assert files.stored(target, prefix)["new"] == files.sha256(b"3")
