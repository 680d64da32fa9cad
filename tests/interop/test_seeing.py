"""What an operator sees: metrics that move, in a form that other people's programs read, and one id from client to custodian."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
import urllib3
import yaml
from prometheus_client import parser as prometheus
from prometheus_client.openmetrics import parser as openmetrics

from servers import clean_environment

HERE = Path(__file__).parents[2] / "examples/observability"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
# What Prometheus itself makes of each scrape.
OF_PROMETHEUS = {"up"}


def get(url, accept="*/*"):
    return urllib3.PoolManager(retries=False, timeout=10).request("GET", url, headers={"Accept": accept})


def urls(target):
    """Where the demo's proxy shows its metrics, and its custodian, where that is one of ours."""
    names = ("CLAVIGER_METRICS_URL", "CLAVIGER_CUSTODIAN_METRICS_URL")
    return [target.exports[name] for name in names if name in target.exports]


def scrape(url):
    """Families by name, from both forms, which have to agree on them."""
    answer = get(url, OPEN_METRICS)
    assert answer.status == 200 and answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(answer.data.decode())}
    answer = get(url)
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert {family.name for family in prometheus.text_string_to_metric_families(answer.data.decode())} == set(families)
    return families


def value(families, name, **labels):
    """The sum of the samples of `name` with these labels."""
    return sum(sample.value for family in families.values() for sample in family.samples
               if sample.name == name and labels.items() <= sample.labels.items())


def series(families):
    """Every name that a query can use; of a counter or histogram also where nothing was counted yet."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
    return {family.name + suffix for family in families.values() for suffix in suffixes.get(family.type, [""])}


def named(expression):
    """The series that a query names."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare))
    return {word for word in re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()\b", bare)
            if not re.search(rf"\b{word}\s*\(", bare) and word not in ("and", "or", "unless", "bool", "offset")}


def test_a_put_and_a_get_move_the_counters(target, prefix):
    before = scrape(urls(target)[0])
    body = target.body(300_000)
    target.s3.put_object(Bucket=target.bucket, Key=f"{prefix}object", Body=body)
    assert target.s3.get_object(Bucket=target.bucket, Key=f"{prefix}object")["Body"].read() == body
    with pytest.raises(target.s3.exceptions.NoSuchKey):
        target.s3.get_object(Bucket=target.bucket, Key=f"{prefix}absent")
    end = time.monotonic() + 10
    while True:
        # A request is counted as over when its last byte was taken.
        after = scrape(urls(target)[0])
        grown = lambda name, **labels: value(after, name, **labels) - value(before, name, **labels)  # noqa: E731
        if grown("claviger_request_duration_seconds_count", operation="GetObject") >= 2 or time.monotonic() > end:
            break
    assert grown("claviger_requests_total", operation="PutObject", result="2xx") == 1
    assert grown("claviger_requests_total", operation="GetObject", result="2xx") == 1
    assert grown("claviger_requests_total", operation="GetObject", result="NoSuchKey") == 1
    assert grown("claviger_request_duration_seconds_count", operation="PutObject") == 1
    assert grown("claviger_request_duration_seconds_count", operation="GetObject") == 2
    assert grown("claviger_received_bytes_total") >= len(body) and grown("claviger_sent_bytes_total") >= len(body)
    assert grown("claviger_storage_call_duration_seconds_count", method="PUT", outcome="2xx") >= 1
    assert grown("claviger_key_cache_lookups_total", kind="write") >= 1
    text = get(urls(target)[0]).data.decode()
    assert prefix not in text and target.bucket not in text and target.access_key not in text


def test_it_is_ready_and_says_so(target):
    for url in urls(target):
        assert get(url.replace("/metrics", "/healthz")).status == 200
        ready = get(url.replace("/metrics", "/readyz"))
        assert (ready.status, ready.data) == (200, b"ready\n")
        assert value(scrape(url), "claviger_ready") == 1


@pytest.mark.backends("embedded")
def test_dashboard_and_rules_name_only_series_that_exist(target):
    exist = OF_PROMETHEUS.union(*(series(scrape(url)) for url in urls(target)))
    assert len(urls(target)) == 2
    dashboard = json.loads((HERE / "grafana-dashboard.json").read_text())
    shown = {query["expr"] for panel in dashboard["panels"] for query in panel.get("targets", [])}
    shown |= {annotation["expr"] for annotation in dashboard["annotations"]["list"]}
    rules = yaml.safe_load((HERE / "prometheus-rules.yaml").read_text())
    watched = {rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    assert len(shown) > 30 and len(watched) > 10
    for expression in sorted(shown | watched):
        found = named(expression)
        assert found and found <= exist, f"{found - exist} in {expression}"
    assert named('sum by (le) (rate(no_such_thing{a="b"}[5m])) / up') == {"no_such_thing", "up"}, "a name is found"


@pytest.mark.backends("embedded")
def test_every_series_is_in_the_operators_guide(target):
    guide = (HERE.parents[1] / "docs/OPERATING.md").read_text()
    exist = set().union(*(set(scrape(url)) for url in urls(target)))
    told = set(re.findall(r"`((?:claviger|process)_[a-z_]+)", guide))
    missing = {name for name in exist if name not in told and f"{name}_total" not in told}
    assert not missing, f"not told: {missing}"


@pytest.mark.backends("embedded")
def test_the_id_in_the_answer_is_in_the_access_log_and_at_the_custodian(target, prefix, tmp_path):
    # A bucket of its own, so that the custodian has to be asked.
    bucket = f"seeing-{prefix.strip('/')}"
    target.s3.create_bucket(Bucket=bucket)
    put = target.s3.put_object(Bucket=bucket, Key="object", Body=b"content")
    answered = put["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"]
    assert re.fullmatch("[0-9A-F]{16}", answered)

    def entries(log, key):
        command = [target.demo.binary, "audit", "show", "--log", log, "--key", key, "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=clean_environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def until(log, key, field):
        """The entries of the request, once a checkpoint covers them."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = [entry for entry in entries(log, key) if (entry.get("entry") or entry).get(field) == answered]
            if found:
                return [entry.get("entry") or entry for entry in found]
            time.sleep(0.5)
        raise AssertionError(f"{answered} is not in {log}")

    home = target.demo.dir
    accesses = until(home / "access-log", home / "access-log.vkey", "request_id")
    assert {entry["operation"] for entry in accesses} == {"PutObject"}
    uses = until(home / "custodian/audit", home / "custodian/audit.vkey", "for_request")
    assert "generate" in {entry["action"] for entry in uses}


@pytest.mark.backends("embedded", "openbao")
def test_status_shows_proxies_and_custodian(target, tmp_path):
    def status(*arguments):
        environment = clean_environment(tmp_path, **target.exports)
        done = subprocess.run([target.demo.binary, "status", "--once", *arguments], cwd=tmp_path, env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # OpenBao lets the demo's token use the KEK, not list keys.
    told = json.loads(status("--json"))
    proxy, = told["proxies"]
    assert proxy["reachable"] and proxy["ready"] and proxy["integrity_alarms"] == 0
    assert proxy["p99_s"]["client"] > 0 and proxy["certificate_expiry_s"] > 86400
    text = status()
    assert "PROXY" in text and "yes" in text
    if target.name == "embedded":
        custodian, = told["custodians"]
        assert custodian["sealed"] is False and custodian["audit"]["well"] and custodian["watches"] == 1
        key = next(key for key in told["keys"] if key["name"] == "demo")
        assert key["latest"] >= 1 and key["branch_keys"] >= 1
        assert "CUSTODIAN" in text and "demo" in text
    gone = json.loads(status("--json", "--metrics-url", "http://127.0.0.1:1"))
    assert gone["proxies"][0]["reachable"] is False
