"""hvac, Vault's Python client, does the same with both servers."""

import base64

import hvac
import pytest

SECRET = base64.b64encode(b"record").decode()
CONTEXT = base64.b64encode(b"context").decode()


@pytest.fixture(params=["bao", "custodian"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(server):
    """Logged in with its certificate."""
    certificate = server.operator.files()
    client = hvac.Client(url=server.url, cert=certificate, verify=str(server.ca_file))
    client.auth.cert.login(cert_pem=certificate[0], key_pem=certificate[1])
    assert client.is_authenticated()
    return client


def approved(server, call):
    """The answer to `call`, which wants two officers at the custodian."""
    if server.name == "bao":
        return call()
    with pytest.raises(hvac.exceptions.Forbidden) as refused:
        call()
    assert refused.value.errors == ["approval required"]
    server.approve_proposal(refused.value.json["data"]["proposal_id"])
    return call()


def test_life_of_a_key(server, client):
    transit, name = client.secrets.transit, "hvac"
    assert name not in keys(transit)
    transit.create_key(name, derived=True, key_type="aes256-gcm96")
    read = transit.read_key(name)["data"]
    assert (read["type"], read["derived"], read["latest_version"], read["min_decryption_version"]) == ("aes256-gcm96", True, 1, 1)
    assert name in keys(transit)

    old = transit.encrypt_data(name, plaintext=SECRET, context=CONTEXT)["data"]["ciphertext"]
    assert old.startswith("vault:v1:")
    assert transit.decrypt_data(name, ciphertext=old, context=CONTEXT)["data"]["plaintext"] == SECRET
    with pytest.raises(hvac.exceptions.InvalidRequest, match="message authentication failed"):
        transit.decrypt_data(name, ciphertext=old, context=SECRET)

    transit.rotate_key(name)
    new = transit.rewrap_data(name, ciphertext=old, context=CONTEXT)["data"]["ciphertext"]
    assert new.startswith("vault:v2:")
    data_key = transit.generate_data_key(name, "plaintext", context=CONTEXT, bits=512)["data"]
    assert len(base64.b64decode(data_key["plaintext"])) == 64
    opened = transit.decrypt_data(name, ciphertext=data_key["ciphertext"], context=CONTEXT)["data"]["plaintext"]
    assert opened == data_key["plaintext"]
    assert "plaintext" not in transit.generate_data_key(name, "wrapped", context=CONTEXT)["data"]

    batch = [{"plaintext": SECRET, "context": CONTEXT}, {"plaintext": "", "context": CONTEXT}]
    results = transit.encrypt_data(name, batch_input=batch)["data"]["batch_results"]
    back = [{"ciphertext": result["ciphertext"], "context": CONTEXT} for result in results]
    results = transit.decrypt_data(name, ciphertext=None, batch_input=back)["data"]["batch_results"]
    assert [result["plaintext"] for result in results] == [SECRET, ""]

    transit.update_key_configuration(name, min_encryption_version=2)
    approved(server, lambda: transit.update_key_configuration(name, min_decryption_version=2))
    with pytest.raises(hvac.exceptions.InvalidRequest, match="too old"):
        transit.decrypt_data(name, ciphertext=old, context=CONTEXT)
    approved(server, lambda: transit.trim_key(name, min_version=2))
    assert transit.read_key(name)["data"]["min_available_version"] == 2
    assert transit.decrypt_data(name, ciphertext=new, context=CONTEXT)["data"]["plaintext"] == SECRET

    with pytest.raises(hvac.exceptions.InvalidRequest, match="deletion is not allowed"):
        transit.delete_key(name)
    approved(server, lambda: transit.update_key_configuration(name, deletion_allowed=True))
    approved(server, lambda: transit.delete_key(name))
    with pytest.raises(hvac.exceptions.InvalidPath):
        transit.read_key(name)


def keys(transit):
    try:
        return transit.list_keys()["data"]["keys"]
    except hvac.exceptions.InvalidPath:
        return []


def test_token(client):
    looked_up = client.auth.token.lookup_self()["data"]
    assert looked_up["renewable"] and looked_up["ttl"] > 0
    client.auth.token.renew_self()
    client.auth.token.revoke_self()
    assert not client.is_authenticated()
    with pytest.raises(hvac.exceptions.Forbidden):
        client.secrets.transit.list_keys()


def test_health(client):
    assert not client.sys.is_sealed()
    assert client.sys.read_health_status(method="GET")["sealed"] is False
    assert client.sys.read_health_status(method="HEAD").status_code == 200
