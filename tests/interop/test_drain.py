"""A proxy is told to end while long uploads run: what comes of those that end in time, and of those that do not."""

import http.client
import os
import re
import signal
import socket
import ssl
import threading
import time
import urllib.parse

import pytest
from botocore.exceptions import ClientError

import load
from deployment import Deployment
from servers import Process, clean_environment, free_ports

pytestmark = pytest.mark.waits

DRAIN_S = 7
PIECE = 1 << 20
PAUSE_S = 0.5


class Two(Deployment):
    """With a second proxy, to which clients can turn."""

    second = None

    def start_second(self):
        self.second_port, = free_ports(1)
        text = (self.dir / "proxy.toml").read_text()
        for pattern, other in ((rf"127.0.0.1:{self.proxy_port}", f"127.0.0.1:{self.second_port}"), ('folder = "access-log"', 'folder = "access-log-2"')):
            text, count = re.subn(pattern, other, text)
            assert count == 1, pattern
        (self.dir / "proxy-2.toml").write_text(text)
        self.second = Process("proxy-2", [self.binary, "proxy", "--config", self.dir / "proxy-2.toml"], self.home,
                              clean_environment(self.home, CLAVIGER_LOG="info"))
        self.second.wait_until(lambda: "the proxy serves" in self.second.log_tail(), "line that says it serves")

    def connect(self, port):
        return load.impatient(f"https://localhost:{port}", self.credentials(), self.dir / "certs/ca.crt", signature_version="s3v4")

    def kill(self):
        if self.second is not None:
            self.second.kill()
        super().kill()


@pytest.fixture
def two(weed, tmp_path):
    made = Two(tmp_path, (weed.url, weed.access_key, weed.secret_key))
    made.edit("proxy.toml", r'state_bucket = ".*"', 'state_bucket = "drain-state"')
    made.edit("proxy.toml", r"(?m)^drain_s = .*$", f"drain_s = {DRAIN_S}")
    try:
        made.start_custodian()
        made.must("key", "create", "records")
        made.start_proxy()
        made.start_second()
        made.connect(made.proxy_port).create_bucket(Bucket="drain")
        yield made
    finally:
        made.kill()


class Upload(threading.Thread):
    """A body that comes piece by piece. Either `status` or `error` says how it ended."""

    def __init__(self, url, ca, body):
        super().__init__(daemon=True)
        self.url, self.ca, self.body, self.status, self.error, self.etag = urllib.parse.urlsplit(url), ca, body, None, None, None

    def run(self):
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection(self.url.hostname, self.url.port, context=context, timeout=60)
        try:
            connection.putrequest("PUT", f"{self.url.path}?{self.url.query}")
            connection.putheader("Content-Length", str(len(self.body)))
            connection.endheaders()
            for first in range(0, len(self.body), PIECE):
                connection.send(self.body[first:first + PIECE])
                time.sleep(PAUSE_S)
            answer = connection.getresponse()
            self.status, self.etag = answer.status, answer.headers["ETag"]
        except (OSError, http.client.HTTPException) as error:
            self.error = error
        finally:
            connection.close()


def test_uploads_end_in_time_or_leave_nothing_and_are_repeated_elsewhere(two):
    first, second, ca = two.connect(two.proxy_port), two.connect(two.second_port), two.dir / "certs/ca.crt"
    bodies = {"short": os.urandom(5 * PIECE), "long": os.urandom(30 * PIECE), "part": os.urandom(30 * PIECE)}
    first.put_object(Bucket="drain", Key="long", Body=b"as it was")
    begun = first.create_multipart_upload(Bucket="drain", Key="part")["UploadId"]
    part = {"Bucket": "drain", "Key": "part", "UploadId": begun, "PartNumber": 1}

    def upload(s3, name):
        where = part if name == "part" else {"Bucket": "drain", "Key": name}
        made = Upload(s3.generate_presigned_url("upload_part" if name == "part" else "put_object", Params=where), ca, bodies[name])
        made.start()
        return made

    with load.Load(load.Application("drain", "elsewhere", lambda: two.connect(two.second_port))) as applications:
        uploads = {name: upload(first, name) for name in bodies}
        time.sleep(2 * PAUSE_S)
        told = time.monotonic()
        os.kill(two.proxy.child.pid, signal.SIGTERM)
        time.sleep(PAUSE_S)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", two.proxy_port), 5)
        for running in uploads.values():
            assert running.status is None and running.error is None, "all go on"
        code = two.proxy.child.wait(DRAIN_S + 10)
        took = time.monotonic() - told
        for running in uploads.values():
            running.join(30)
    assert not applications.errors, applications.errors[:3]
    log = two.proxy.log.read_text(errors="replace")
    assert code == 0 and DRAIN_S - 0.5 < took, (code, took)
    assert "cut off what outlasted the drain time" in log and "requests_cut=2" in log, log[-2000:]
    assert uploads["short"].status == 200 and all(uploads[name].error is not None for name in ("long", "part")), uploads["short"].error

    # What ended in time is there; of the rest, nothing is.
    assert second.get_object(Bucket="drain", Key="short")["Body"].read() == bodies["short"]
    assert second.get_object(Bucket="drain", Key="long")["Body"].read() == b"as it was"
    assert "Parts" not in second.list_parts(Bucket="drain", Key="part", UploadId=begun)
    with pytest.raises(ClientError, match="404|NoSuchKey"):
        second.get_object(Bucket="drain", Key="part")
    repeated = {name: upload(second, name) for name in ("long", "part")}
    for name, running in repeated.items():
        running.join(60)
        assert running.status == 200, (name, running.error)
    parts = {"Parts": [{"PartNumber": 1, "ETag": repeated["part"].etag}]}
    second.complete_multipart_upload(Bucket="drain", Key="part", UploadId=begun, MultipartUpload=parts)
    for name in ("long", "part"):
        assert second.get_object(Bucket="drain", Key=name)["Body"].read() == bodies[name]
    applications.all_there(second)
