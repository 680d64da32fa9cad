"""The ways in for applications that are not told of an endpoint elsewhere: by names, by a redirect, and by a proxy beside them."""

import pytest

import namespace

pytestmark = pytest.mark.waits

REACHED = ("https://s3.amazonaws.com virtual interop-records", "https://s3.us-east-1.amazonaws.com path interop.with.dots")


def test_an_application_keeps_the_public_names(tmp_path):
    shown = namespace.run("intercepted.py", tmp_path)
    assert "all names reached the proxy" in shown, shown
    for reached in REACHED:
        assert reached in shown, shown


def test_an_application_keeps_the_public_names_and_their_addresses(tmp_path):
    _, *shown = namespace.run("redirected.py", tmp_path).split("rules for ")
    assert [part.split(":")[0] for part in shown] == ["output", "prerouting"]
    for part in shown:
        assert all(reached in part for reached in REACHED), part


def test_a_proxy_beside_the_application_is_its_alone(tmp_path):
    shown = namespace.run("sidecar.py", tmp_path)
    assert "the application reached http://127.0.0.1:8080" in shown and "only the pod reached its proxy" in shown, shown
