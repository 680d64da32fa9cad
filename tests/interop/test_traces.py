"""A trace that an application begins with OpenTelemetry's own SDK, and that goes on through proxy, custodian and storage server."""

import socket
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deployment import Deployment
from servers import free_ports

KEY = "folder/the-telling-name"
SECRET = "the very secret content"
WITHIN_S = 20
CLIENT = 3


class Collector:
    """Takes spans by OTLP over HTTP, and keeps them as they came."""

    def __init__(self):
        bodies = self.bodies = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        """(service, span) of all that came."""
        found = []
        for path, body in list(self.bodies):
            assert path == "/v1/traces"
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {attribute.key: attribute.value.string_value for attribute in of_resource.resource.attributes}
                assert names["service.instance.id"] if names["service.name"].startswith("claviger-") else True
                found += [(names["service.name"], span) for scope in of_resource.scope_spans for span in scope.spans]
        return found

    def until(self, holds):
        """The spans, once they are what they have to become."""
        end = time.monotonic() + WITHIN_S
        while not holds(self.spans()):
            assert time.monotonic() < end, [(service, span.name) for service, span in self.spans()]
            time.sleep(0.1)
        return self.spans()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture
def bucket():
    return f"traced-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def deployment(tmp_path, weed):
    deployment = Deployment(tmp_path, (weed.url, weed.access_key, weed.secret_key))
    yield deployment
    deployment.kill()


def trace(deployment, url, more=""):
    for name, lines in (("custodian.toml", ""), ("proxy.toml", more)):
        path = deployment.dir / name
        path.write_text(f'{path.read_text()}\n[traces]\nendpoint = "{url}"\ninterval_ms = 100\n{lines}')


def attributes(span):
    return {attribute.key: attribute.value.string_value or attribute.value.int_value for attribute in span.attributes}


class Application:
    """boto3 under OpenTelemetry: each request is sent with the span that is current."""

    def __init__(self, s3, collector):
        self.s3 = s3
        self.provider = TracerProvider(resource=Resource.create({"service.name": "application"}))
        self.provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=collector.url)))
        self.tracer = self.provider.get_tracer("test")
        s3.meta.events.register("before-sign.s3", self.inject)

    @staticmethod
    def inject(request, **_):
        headers = {}
        TraceContextTextMapPropagator().inject(headers)
        for name, value in headers.items():
            request.headers[name] = value
        request.headers["baggage"] = "user=very-secret"


def test_an_applications_trace_goes_through_all_of_it(deployment, collector, bucket):
    trace(deployment, collector.url, "trust_client = true\n")
    deployment.start_custodian()
    deployment.must("key", "create", "records")
    s3 = deployment.start_proxy()
    s3.create_bucket(Bucket=bucket)
    application = Application(s3, collector)
    with application.tracer.start_as_current_span("invoice") as span:
        answer = s3.put_object(Bucket=bucket, Key=KEY, Body=SECRET.encode())
        trace_id = span.get_span_context().trace_id.to_bytes(16)
    request_id = answer["ResponseMetadata"]["RequestId"]

    def is_whole(spans):
        return {"application", "claviger-proxy", "claviger-custodian"} <= {
            service for service, span in spans if span.trace_id == trace_id} and any(
            span.name == "PutObject" for _, span in spans)

    spans = [(service, span) for service, span in collector.until(is_whole) if span.trace_id == trace_id]
    names = {(service, span.name): span for service, span in spans}
    put, invoice = names["claviger-proxy", "PutObject"], names["application", "invoice"]
    asked, served = names["claviger-proxy", "custodian datakey/plaintext"], names["claviger-custodian", "datakey"]
    stored = names["claviger-proxy", "storage PUT"]
    assert put.parent_span_id == invoice.span_id
    assert {asked.parent_span_id, stored.parent_span_id} == {put.span_id} and served.parent_span_id == asked.span_id
    assert asked.kind == stored.kind == CLIENT
    for inner, outer in ((put, invoice), (asked, put), (served, asked), (stored, put)):
        assert outer.start_time_unix_nano <= inner.start_time_unix_nano <= inner.end_time_unix_nano
    assert attributes(put)["claviger.request_id"] == attributes(served)["claviger.for_request"] == request_id
    assert attributes(put)["http.response.status_code"] == attributes(stored)["http.response.status_code"] == 200

    # By it, lines of the log are found, and by them nothing that is to stay here goes to the collector.
    assert trace_id.hex() in (deployment.home / "custodian.log").read_text()
    sent = b"".join(body for _, body in collector.bodies)
    secrets = (SECRET, KEY, bucket, "very-secret", *deployment.credentials(), "Signature", "records")
    assert not [secret for secret in secrets if secret.encode() in sent]

    # The last spans come before the end.
    s3.get_object(Bucket=bucket, Key=KEY)["Body"].read()
    deployment.proxy.terminate()
    assert any(span.name == "GetObject" for _, span in collector.spans())


def test_strangers_neither_join_nor_sample(deployment, collector, bucket):
    trace(deployment, collector.url, "sample_ratio = 0\n")
    deployment.start_custodian()
    deployment.must("key", "create", "records")
    s3 = deployment.start_proxy()
    application = Application(s3, collector)
    with application.tracer.start_as_current_span("invoice"):
        s3.create_bucket(Bucket=bucket)
    deployment.stop()
    # The officer's request began a trace at the custodian, which samples all.
    assert {service for service, _ in collector.spans()} == {"application", "claviger-custodian"}


@pytest.mark.parametrize("kind", ["absent", "silent"])
def test_a_collector_that_fails_stops_nothing(deployment, bucket, kind):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        port = silent.getsockname()[1] if kind == "silent" else free_ports(1)[0]
        metrics_port = free_ports(1)[0]
        trace(deployment, f"http://127.0.0.1:{port}/v1/traces", "timeout_s = 1\n")
        deployment.edit("proxy.toml", r'# \[metrics\]\n# listen = ".*"', f'[metrics]\nlisten = "127.0.0.1:{metrics_port}"')
        deployment.start_custodian()
        deployment.must("key", "create", "records")
        s3 = deployment.start_proxy()
        s3.create_bucket(Bucket=bucket)
        for number in range(20):
            s3.put_object(Bucket=bucket, Key=f"{number}", Body=SECRET.encode())
            assert s3.get_object(Bucket=bucket, Key=f"{number}")["Body"].read() == SECRET.encode()

        def dropped():
            shown = urllib3.request("GET", f"http://127.0.0.1:{metrics_port}/metrics", retries=False).data.decode()
            series = 'claviger_trace_spans_dropped_total{cause="collector-failed"} '
            return any(line.startswith(series) and line != f"{series}0" for line in shown.splitlines())

        deployment.proxy.wait_until(dropped, "count of dropped spans")
        deployment.proxy.wait_until(lambda: "spans were dropped" in deployment.proxy.log.read_text(), "line about it")
        begun = time.monotonic()
        deployment.stop()
        assert time.monotonic() - begun < 2 * WITHIN_S
