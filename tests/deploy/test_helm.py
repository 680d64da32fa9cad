"""The chart: by Helm itself, by Kubernetes' schemas, and by the program that has to take what it renders."""

import json
import re

import kubernetes_validate
import pytest
import tools
import yaml
from conftest import ROOT, must, problems, run
from servers import program

CHART = ROOT / "deploy/helm/claviger"
VALUES = ["whole", "proxies"]
KUBERNETES = ["1.30", "1.34", "1.37"]


def rendered(values, *more):
    text = must(tools.helm(), "template", "trial", CHART, "--namespace", "keys", "--values", CHART / f"ci/{values}-values.yaml", *more)
    return [document for document in yaml.safe_load_all(text) if document]


def named(documents, kind, name):
    (found,) = [one for one in documents if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods(documents):
    for one in documents:
        spec = one.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield one, spec["template"]


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_nothing_wrong(values):
    must(tools.helm(), "lint", "--strict", CHART, "--values", CHART / f"ci/{values}-values.yaml")


@pytest.mark.parametrize(("setting", "told"), [
    ("proxy.clients[0].accessKey=a b", "accessKey"), ("proxy.replica=3", "replica"), ("proxy.custodian.urls[0]=http://custodian:8200", "urls"),
    ("custodian.approvals.required=1", "required"), ("proxy.storage.url=", "proxy.storage.url"), ("proxy.tls.secretName=", "proxy.tls.secretName")])
def test_wrong_values_are_refused_by_name(setting, told):
    done = run(tools.helm(), "template", "trial", CHART, "--values", CHART / "ci/whole-values.yaml", "--set", setting)
    assert done.returncode != 0 and told in done.stderr, done.stderr


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VALUES)
def test_kubernetes_knows_every_field(values, version):
    for document in rendered(values):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("values", VALUES)
def test_the_program_takes_every_configuration(values, material, tmp_path):
    documents = rendered(values)
    maps = [one for one in documents if one["kind"] == "ConfigMap"]
    assert len(maps) == {"whole": 3, "proxies": 1}[values]
    for config in maps:
        folder = tmp_path / config["metadata"]["name"]
        folder.mkdir()
        for name, text in config["data"].items():
            (folder / name).write_text(text.replace("/var/lib/claviger", str(folder)))
        (file,) = folder.glob("*.toml")
        assert problems(file, material) == []


def test_texts_are_written_as_toml_whatever_is_in_them(material, tmp_path):
    odd = 'a "quoted" \\ principal'
    (config,) = [one for one in rendered("proxies", "--set-json", f"proxy.clients[0].principal={json.dumps(odd)}")
                 if one["kind"] == "ConfigMap"]
    (line,) = re.findall(r"(?m)^principal = (.*)$", config["data"]["proxy.toml"])
    assert json.loads(line) == odd


@pytest.mark.parametrize("values", VALUES)
def test_the_files_of_a_configuration_are_mounted(values):
    documents = rendered(values)
    for owner, template in pods(documents):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        (container,) = template["spec"]["containers"]
        assert run(program(), *container["args"], "--help").returncode == 0, container["args"]
        assert {"name": "CREDENTIALS_DIRECTORY", "value": "/run/claviger/credentials"} in container["env"]
        config = named(documents, "ConfigMap", volumes["config"]["configMap"]["name"])["data"]
        (text,) = [text for name, text in config.items() if name.endswith(".toml")]
        asked = set(re.findall(r'"\$\{CREDENTIALS_DIRECTORY\}/([^"]+)"', text))
        projected = volumes["credentials"]["projected"]
        there = [item["path"] for source in projected["sources"] for item in source["secret"]["items"]]
        assert asked == set(there) and len(there) == len(set(there)), owner["metadata"]["name"]
        assert projected["defaultMode"] & 0o007 == 0


@pytest.mark.parametrize("values", VALUES)
def test_pods_are_restricted_and_have_no_token(values):
    for owner, template in pods(rendered(values)):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False and pod["serviceAccountName"] == "trial"
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] == 65532
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            assert "memory" in container["resources"]["limits"], owner["metadata"]["name"]


def test_whoever_selects_pods_selects_those_of_the_chart():
    documents = rendered("whole")
    labels = [template["metadata"]["labels"] for _, template in pods(documents)]

    def matching(selector):
        return [one for one in labels if selector.items() <= one.items()]

    for one in documents:
        spec = one.get("spec", {})
        selector = spec.get("selector") if one["kind"] == "Service" else spec.get("selector", {}).get("matchLabels")
        if one["kind"] in ("Service", "Deployment", "StatefulSet", "PodDisruptionBudget"):
            expected = 2 if one["metadata"]["name"] == "trial-custodian" else 1
            assert len(matching(selector)) == expected, one["metadata"]["name"]
    policies = [one for one in documents if one["kind"] == "NetworkPolicy"]
    assert {policy["metadata"]["name"] for policy in policies} == {"trial-proxy", "trial-custodian"}
    assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in policies)


def test_proxies_reach_each_custodian_by_name_and_it_waits_for_their_drain():
    documents = rendered("whole")
    text = named(documents, "ConfigMap", "trial-proxy")["data"]["proxy.toml"]
    (urls,) = re.findall(r"(?m)^urls = (.*)$", text)
    services = {one["metadata"]["name"] for one in documents if one["kind"] == "Service"}
    assert json.loads(urls) == [f"https://trial-custodian-{n}.keys.svc:8200" for n in (1, 2)]
    assert {url.removeprefix("https://").split(".")[0] for url in json.loads(urls)} <= services
    pod = named(documents, "Deployment", "trial-proxy")["spec"]["template"]["spec"]
    drain_s = int(re.search(r"(?m)^drain_s = (\d+)$", text)[1])
    before_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] == drain_s + before_s + 15


def test_its_policy_is_the_one_that_init_writes():
    assert (CHART / "files/policy.cedar").read_text() == (ROOT / "examples/policies/default.cedar").read_text()
