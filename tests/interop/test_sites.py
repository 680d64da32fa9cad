"""A storage server in Virginia and a replica of its ciphertext in Singapore: what goes on when Virginia is cut off."""

import pytest

import namespace

pytestmark = pytest.mark.waits


def test_reads_go_on_from_the_replica_which_holds_no_plaintext(tmp_path):
    shown = namespace.run("sites.py", tmp_path)
    assert "reads went on from Singapore while Virginia was cut off or silent" in shown, shown
    assert "no plaintext travelled to Singapore or lies there" in shown, shown
