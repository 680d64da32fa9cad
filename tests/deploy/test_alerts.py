"""The alert rules under Prometheus' own tools: each fires on what it is about, and not on what is usual; each is in the runbook."""

import re

import pytest
import yaml
from conftest import ROOT, must, run

RULES = ROOT / "examples/observability/prometheus-rules.yaml"
GUIDE = ROOT / "docs/OPERATING.md"

# By alert: series that let it fire, and series that do not. A series is its name and labels, and its values each 30 s (Prometheus' notation).
CASES = {
    "ClavigerIntegrityAlarm": (
        [("claviger_integrity_alarms_total", "0x30 1x10")],
        [("claviger_integrity_alarms_total", "3x40")]),
    "ClavigerDown": (
        [('up{job="claviger"}', "1 0x40")],
        [('up{job="claviger"}', "1x40"), ('up{job="other"}', "0x40")]),
    "ClavigerNotReady": (
        [("claviger_ready", "0x40")],
        [("claviger_ready", "1x38 0")]),
    "ClavigerErrors": (
        [('claviger_requests_total{result="2xx"}', "0+100x40"), ('claviger_requests_total{result="5xx"}', "0+2x40")],
        [('claviger_requests_total{result="2xx"}', "0+1000x40"), ('claviger_requests_total{result="5xx"}', "0+2x40"),
         ('claviger_requests_total{result="NoSuchKey"}', "0+500x40")]),
    "ClavigerSaturated": (
        [('claviger_requests_total{result="SlowDown"}', "0+1x40")],
        [('claviger_requests_total{result="SlowDown"}', "7x40"), ('claviger_requests_total{result="2xx"}', "0+100x40")]),
    "ClavigerStorageSlow": (
        [('claviger_storage_call_duration_seconds_bucket{method="GET",le="5"}', "0+90x40"),
         ('claviger_storage_call_duration_seconds_bucket{method="GET",le="10"}', "0+100x40"),
         ('claviger_storage_call_duration_seconds_bucket{method="GET",le="+Inf"}', "0+100x40")],
        [('claviger_storage_call_duration_seconds_bucket{method="GET",le="5"}', "0+100x40"),
         ('claviger_storage_call_duration_seconds_bucket{method="GET",le="+Inf"}', "0+100x40"),
         ('claviger_storage_call_duration_seconds_bucket{method="PUT",le="5"}', "0x40"),
         ('claviger_storage_call_duration_seconds_bucket{method="PUT",le="+Inf"}', "0+100x40")]),
    "ClavigerStorageFails": (
        [('claviger_storage_call_duration_seconds_count{outcome="unreachable"}', "0+6x40")],
        [('claviger_storage_call_duration_seconds_count{outcome="2xx"}', "0+600x40"),
         ('claviger_storage_call_duration_seconds_count{outcome="4xx"}', "0+60x40")]),
    "ClavigerCustodianFails": (
        [('claviger_custodian_call_duration_seconds_count{outcome="sealed"}', "0+1x40")],
        [('claviger_custodian_call_duration_seconds_count{outcome="ok"}', "0+10x40"),
         ('claviger_custodian_call_duration_seconds_count{outcome="denied"}', "0+10x40")]),
    "ClavigerWatchLost": (
        [("claviger_custodian_watch_connected", "1 0x39")],
        [("claviger_custodian_watch_connected", "1x39 0")]),
    "ClavigerCertificateExpires": (
        [('claviger_certificate_expiry_seconds{role="server"}', "1000000x40")],
        [('claviger_certificate_expiry_seconds{role="server"}', "3000000x40")]),
    "ClavigerCertificateExpiresSoon": (
        [('claviger_certificate_expiry_seconds{role="custodian-client"}', "1000x40")],
        [('claviger_certificate_expiry_seconds{role="custodian-client"}', "1000000x40")]),
    "ClavigerAccessLogUnwritable": (
        [("claviger_access_log_well", "0x40")],
        [("claviger_access_log_well", "1x40")]),
    "ClavigerCustodianSealed": (
        [("claviger_custodian_sealed", "1x40")],
        [("claviger_custodian_sealed", "1 1 0x38")]),
    "ClavigerCustodianStoreOutOfSight": (
        [("claviger_custodian_store_well", "0x40")],
        [("claviger_custodian_store_well", "1x40")]),
    "ClavigerAuditUnwritable": (
        [("claviger_custodian_audit_well", "0x40")],
        [("claviger_custodian_audit_well", "1x40")]),
    "ClavigerAuditLag": (
        [("claviger_custodian_audit_lag_seconds", "31x40")],
        [("claviger_custodian_audit_lag_seconds", "1x40")]),
    "ClavigerDenials": (
        [('claviger_custodian_decisions_total{action="unwrap",decision="deny"}', "0+3x40")],
        [('claviger_custodian_decisions_total{action="unwrap",decision="deny"}', "0x30 5x10"),
         ('claviger_custodian_decisions_total{action="unwrap",decision="allow"}', "0+30x40")]),
    "ClavigerOpenFiles": (
        [("process_open_fds", "900x40"), ("process_max_fds", "1000x40")],
        [("process_open_fds", "700x40"), ("process_max_fds", "1000x40")]),
}


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def labelled(name, labels):
    """The series with further labels."""
    return f"{name[:-1]},{labels}}}" if name.endswith("}") else f"{name}{{{labels}}}"


def firing(folder, series, alert):
    """What promtool says of `alert` after 20 minutes of these series, if none is expected."""
    test = {
        "rule_files": [str(RULES)],
        "tests": [{
            "interval": "30s",
            "input_series": [{"series": labelled(name, 'instance="proxy-1"'), "values": values} for name, values in series],
            "alert_rule_test": [{"eval_time": "20m", "alertname": alert, "exp_alerts": []}],
        }],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    return run("promtool", "test", "rules", file)


def test_prometheus_takes_the_rules():
    must("promtool", "check", "rules", RULES)
    assert {rule["alert"] for rule in rules()} == set(CASES), "each has its case below, and each case its alert"


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_on_what_it_is_about_and_on_nothing_usual(tmp_path, alert):
    fire, rest = CASES[alert]
    fired = firing(tmp_path, fire, alert)
    said = fired.stdout + fired.stderr
    assert fired.returncode == 1 and f'alertname="{alert}"' in said, said
    assert "proxy-1" in re.search(r'summary="([^"]*)', said)[1], "it says where"
    quiet = firing(tmp_path, rest, alert)
    assert quiet.returncode == 0, quiet.stdout + quiet.stderr


def test_each_alert_has_an_entry_in_the_runbook_and_names_it():
    guide = GUIDE.read_text()
    for rule in rules():
        entry = re.search(rf"^### {rule['alert']}\n(.+?)(?=^##)", guide, re.MULTILINE | re.DOTALL)
        assert entry and len(entry[1].split()) > 25, rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/OPERATING.md#{rule['alert'].lower()}"
    entries = set(re.findall(r"^### (Claviger[A-Z]\w+)$", guide, re.MULTILINE))
    assert entries == set(CASES), "no entry without its alert"
