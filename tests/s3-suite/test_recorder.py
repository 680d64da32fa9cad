"""The recorder itself: what it takes for written, and what it takes for wrong."""

from types import SimpleNamespace

import pytest
import recorder
from between import Answer, Request
from recorder import Recorder

BODY = bytes(range(256)) * 40


@pytest.fixture
def here():
    made = Recorder("http://127.0.0.1:1")
    yield made
    made.stop()


def wrote(here, target, body=b"", method="PUT", **headers):
    here.seen(Request(method, target, [(name.replace("_", "-"), value) for name, value in headers.items()], body))


def got(here, target, body, status=200, whole=True, length=None, **headers):
    """Whether the recorder takes this for right."""
    before = len(here.wrong)
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    here.changed(Request("GET", target, [], b""), Answer(status, named, body, whole, len(body) if length is None else length))
    return len(here.wrong) == before


def test_a_read_is_right_if_it_is_of_something_that_was_written_there(here):
    wrote(here, "/b/k", BODY)
    wrote(here, "/b/k", BODY[::-1])
    wrote(here, "/b/other", b"other")
    assert got(here, "/b/k", BODY) and got(here, "/b/k?versionId=1", BODY[::-1])
    assert not got(here, "/b/k", b"other") and not got(here, "/c/k", BODY) and not got(here, "/b/k", BODY[:-1])
    assert not got(here, "/b/k", BODY[:99] + b"\0" + BODY[100:])
    assert got(here, "/b/k", BODY[:100], whole=False, length=len(BODY)) and not got(here, "/b/k", BODY[1:100], whole=False, length=len(BODY))
    assert got(here, "/b/k", BODY[:100], whole=False, length=len(BODY) + 1) and not got(here, "/b/k", BODY[:100], length=len(BODY))
    assert here.compared == 7 and here.begun == 3


def test_a_range_has_to_be_where_it_says(here):
    wrote(here, "/b/k", BODY)
    assert got(here, "/b/k", BODY[5:20], 206, content_range=f"bytes 5-19/{len(BODY)}")
    assert not got(here, "/b/k", BODY[5:20], 206, content_range=f"bytes 6-20/{len(BODY)}")
    assert not got(here, "/b/k", BODY[5:20], 206, content_range=f"bytes 5-19/{len(BODY) + 1}")
    assert not got(here, "/b/k", BODY[5:19], 206, content_range=f"bytes 5-19/{len(BODY)}")


def test_uploads_copies_chunks_and_forms_are_what_they_come_to(here):
    chunked = b"3;chunk-signature=x\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    wrote(here, "/b/source", chunked, x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    wrote(here, "/b/copy", x_amz_copy_source="b/source?versionId=7")
    assert got(here, "/b/source", b"abcde") and got(here, "/b/copy", b"abcde")
    wrote(here, "/b/parts?uploadId=u&partNumber=1", b"one")
    wrote(here, "/b/parts?uploadId=u&partNumber=1", b"ONE")
    wrote(here, "/b/parts?uploadId=u&partNumber=2", x_amz_copy_source="/b/source", x_amz_copy_source_range="bytes=1-2")
    wrote(here, "/b/parts?uploadId=u", b"<C><Part><PartNumber>1</PartNumber></Part><Part><PartNumber>2</PartNumber></Part></C>", "POST")
    assert got(here, "/b/parts", b"onebc") and got(here, "/b/parts", b"ONEbc") and not got(here, "/b/parts", b"one")
    form = b"".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in (("key", "in/${filename}"), ("acl", "private")))
    form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\nContent-Type: text/plain\r\n\r\nsent\r\n--x--\r\n'
    wrote(here, "/b", form, "POST", content_type="multipart/form-data; boundary=x")
    assert got(here, "/b/in/f", b"sent")


@pytest.mark.parametrize("body, proper", [(b"<Error><Code>NoSuchKey</Code></Error>", True), (b"", False), (b"<Error/>", False), (b"no", False)])
def test_an_error_is_a_document_with_a_code(here, body, proper):
    got(here, "/b/k", body, 404)
    assert (not here.improper) == proper
    strange = SimpleNamespace(headers=[("x-amz-meta-a", "\x04")])
    assert not recorder.is_http(strange)
