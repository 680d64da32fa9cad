"""Servers that get another address while a proxy runs: their names are asked for anew, without a restart."""

import pytest

import namespace

pytestmark = pytest.mark.waits


def test_a_proxy_goes_where_the_names_lead(tmp_path):
    shown = namespace.run("moved.py", tmp_path)
    assert "closed: " in shown and "silent: " in shown, shown
    print(shown)
