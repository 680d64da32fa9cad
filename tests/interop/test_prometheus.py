"""A real Prometheus over the demo: it scrapes both processes, takes the rules, and has something to draw for each panel of the dashboard."""

import json
import time
from pathlib import Path

import pytest
import urllib3
import yaml

from servers import Process, clean_environment, free_ports, tool

HERE = Path(__file__).parents[2] / "examples/observability"
# What there is nothing of while all is well.
EMPTY_IS_WELL = ("result!~", "claviger_answers_cut_total", "changes(")


class Prometheus:
    """One of its own, with the rules of examples/observability."""

    def __init__(self, folder, urls):
        port, = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        hosts = [url.removeprefix("http://").removesuffix("/metrics") for url in urls]
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(HERE / "prometheus-rules.yaml")],
            "scrape_configs": [{"job_name": "claviger", "static_configs": [{"targets": hosts}]}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
        command = [tool("prometheus"), f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
                   f"--web.listen-address=127.0.0.1:{port}"]
        self.process = Process("prometheus", command, folder, clean_environment(folder))

    def ask(self, path, **fields):
        try:
            answer = urllib3.PoolManager(retries=False, timeout=10).request("GET", f"{self.url}/api/v1/{path}", fields=fields)
        except urllib3.exceptions.HTTPError:
            return None
        if answer.status == 503:
            return None
        assert answer.status == 200, answer.data
        return json.loads(answer.data)["data"]

    def query(self, expression):
        return (self.ask("query", query=expression) or {"result": []})["result"]


@pytest.fixture
def watching(target, tmp_path):
    urls = [target.exports[name] for name in ("CLAVIGER_METRICS_URL", "CLAVIGER_CUSTODIAN_METRICS_URL")]
    prometheus = Prometheus(tmp_path, urls)
    try:
        prometheus.process.wait_until(lambda: len(prometheus.query("up == 1")) == 2, "sight of both processes")
        yield prometheus
    finally:
        prometheus.process.kill()


@pytest.mark.backends("embedded")
def test_prometheus_draws_each_panel_and_fires_nothing_while_all_is_well(target, prefix, watching):
    dashboard = json.loads((HERE / "grafana-dashboard.json").read_text())
    queries = [query["expr"] for panel in dashboard["panels"] for query in panel.get("targets", [])]
    queries += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    queries = [query.replace("$instance", ".*").replace("$__rate_interval", "30s") for query in queries]
    drawn = [query for query in queries if not any(part in query for part in EMPTY_IS_WELL)]
    assert len(drawn) > 25 and all(watching.ask("query", query=query)["resultType"] == "vector" for query in queries)
    end, missing = time.monotonic() + 60, drawn
    bucket = f"prometheus-{prefix.strip('/')}"
    target.s3.create_bucket(Bucket=bucket)
    while missing and time.monotonic() < end:
        target.s3.put_object(Bucket=bucket, Key="object", Body=b"content")
        target.s3.get_object(Bucket=bucket, Key="object")["Body"].read()
        missing = [query for query in missing if not watching.query(query)]
        time.sleep(0.5)
    assert not missing, f"nothing to draw for {missing}"
    rules = [rule for group in watching.ask("rules")["groups"] for rule in group["rules"]]
    written = {rule["alert"] for group in yaml.safe_load((HERE / "prometheus-rules.yaml").read_text())["groups"] for rule in group["rules"]}
    assert {rule["name"] for rule in rules if rule["health"] == "ok"} == written
    critical = [rule["name"] for rule in rules if rule["state"] == "firing" and rule["labels"]["severity"] == "critical"]
    assert not critical
