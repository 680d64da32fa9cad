"""The Terraform example: its resources by the Vault provider's own schema, and the provider's calls to a custodian.

The calls are those of hashicorp/terraform-provider-vault, vault/resource_transit_secret_backend_key.go and internal/provider/meta.go.
Terraform itself is in none of the package registries that the tests install from.
"""

import ast
import re

import hcl2
import pytest
import tools
from conftest import ROOT
from custodian import Custodian
from pki import Authority

FOLDER = ROOT / "examples/terraform"


def parsed():
    blocks = {}
    for file in sorted(FOLDER.glob("*.tf")):
        with file.open() as opened:
            for kind, content in hcl2.load(opened).items():
                if isinstance(content, list) and kind != "__comments__":
                    blocks.setdefault(kind, []).extend(content)
    return blocks


def unquoted(value):
    return value.strip('"') if isinstance(value, str) else value


def attributes(block):
    return {unquoted(key) for key in block if not key.startswith("__")}


def arguments_of(module, name):
    """The arguments that a resource or block takes, and which of them have to be there."""
    tree = ast.parse(tools.provider_source(module))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    (init,) = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    names = [argument.arg for argument in init.args.kwonlyargs]
    needed = {name for name, default in zip(names, init.args.kw_defaults, strict=True) if default is None}
    return set(names), needed


META = {"for_each", "lifecycle", "count", "depends_on", "provider"}


def test_the_provider_knows_every_attribute():
    (resource,) = parsed()["resource"]
    (kind,) = resource
    assert unquoted(kind) == "vault_transit_secret_backend_key"
    (key,) = resource[kind].values()
    known, needed = arguments_of("transit_secret_backend_key", "TransitSecretBackendKeyConfig")
    given = attributes(key) - META
    assert given <= known and needed <= given, (given - known, needed - given)
    (provider,) = parsed()["provider"]
    (vault,) = provider.values()
    known, needed = arguments_of("provider", "VaultProviderConfig")
    assert attributes(vault) <= known and needed <= attributes(vault)
    known, needed = arguments_of("provider", "VaultProviderAuthLoginCert")
    (login,) = vault["auth_login_cert"]
    assert attributes(login) <= known and needed <= attributes(login)


def test_each_variable_is_declared_and_used():
    declared = {unquoted(name) for block in parsed()["variable"] for name in block}
    used = set(re.findall(r"\bvar\.(\w+)", "".join(file.read_text() for file in FOLDER.glob("*.tf"))))
    assert declared == used
    told = set(re.findall(r"TF_VAR_(\w+)=", (FOLDER / "README.md").read_text()))
    assert told <= declared


@pytest.fixture(scope="module")
def custodian(tmp_path_factory):
    folder = tmp_path_factory.mktemp("custodian")
    authority = Authority(folder)
    server = Custodian(folder, authority, authority.client("operator", "spiffe://example.org/region/us/officer/carol"))
    yield server
    server.stop()


# What the example sets, with the provider's defaults for the rest.
MAKE = {"convergent_encryption": False, "derived": True, "type": "aes256-gcm96", "auto_rotate_period": 7776000}
# The misspelt name is the provider's.
SETTINGS = {"min_decryption_version": 1, "min_encryption_versoin": 0, "deletion_allowed": False, "exportable": False,
            "allow_plaintext_backup": False, "auto_rotate_period": 7776000}


def provider(custodian):
    """A connection as the provider has it: it logs in by its certificate, looks its token up and asks for the version."""
    login = custodian.connection().request("PUT", "/v1/auth/cert/login", {})
    assert login.status == 200, login
    token = login.body["auth"]["client_token"]
    connection = custodian.connection({"X-Vault-Token": token, "X-Vault-Request": "true"})
    looked_up = connection.request("GET", "/v1/auth/token/lookup-self")
    assert looked_up.status == 200 and looked_up.body["data"]["id"] == token
    status = connection.request("GET", "/v1/sys/seal-status")
    assert status.status == 200 and re.fullmatch(r"\d+\.\d+\.\d+\S*", status.body["version"]), "it parses that as a version"
    return connection


def read(connection, name):
    answer = connection.request("GET", f"/v1/transit/keys/{name}")
    assert answer.status == 200, answer
    data = answer.body["data"]
    # It converts these without asking whether they are there.
    for field in ("latest_version", "min_available_version", "min_decryption_version", "min_encryption_version"):
        assert type(data[field]) is int, field
    assert all(type(value) is int for value in data["keys"].values())
    assert "key_size" not in data and data["type"] != "hmac"
    return data


@pytest.mark.parametrize("more", [{}, {"key_size": 0}], ids=["before Vault 1.12", "from Vault 1.12 on"])
def test_a_key_is_made_read_and_changed_as_the_provider_does_it(custodian, more):
    connection, name = provider(custodian), f"records-{len(more)}"
    assert connection.request("GET", f"/v1/transit/keys/{name}").status == 404, "there is none, it plans"
    assert connection.request("PUT", f"/v1/transit/keys/{name}", {**MAKE, **more}).status == 200
    assert connection.request("PUT", f"/v1/transit/keys/{name}/config", SETTINGS).status == 200
    data = read(connection, name)
    planned = {**MAKE, **{name: value for name, value in SETTINGS.items() if name in data}}
    drift = {name: (data.get(name), value) for name, value in planned.items() if data.get(name, False) != value}
    assert drift == {}, "a second plan would change something"

    changed = {"min_decryption_version": 1, "min_encryption_version": 0, "deletion_allowed": False, "exportable": False,
               "allow_plaintext_backup": False, "auto_rotate_period": 2592000}
    assert connection.request("PUT", f"/v1/transit/keys/{name}/config", changed).status == 200
    assert read(connection, name)["auto_rotate_period"] == 2592000


def test_what_takes_a_quorum_is_refused_with_a_proposal_and_goes_on_after_it(custodian):
    connection, path = provider(custodian), "/v1/transit/keys/short-lived"
    assert connection.request("PUT", path, MAKE).status == 200
    wanted = {**SETTINGS, "deletion_allowed": True}
    refused = connection.request("PUT", f"{path}/config", wanted)
    assert refused.status == 403 and refused.body["errors"] == ["approval required"], refused
    custodian.approve(refused)
    assert connection.request("PUT", f"{path}/config", wanted).status == 200
    refused = connection.request("DELETE", path)
    assert refused.status == 403 and refused.body["errors"] == ["approval required"], refused
    custodian.approve(refused)
    assert connection.request("DELETE", path).status == 204
    assert connection.request("GET", path).status == 404
