"""The operator's guide: what it says is what works."""

import pytest

import namespace

pytestmark = pytest.mark.waits


def test_every_command_of_the_first_steps_works_as_it_stands(tmp_path):
    shown = namespace.run("guide.py", tmp_path)
    assert "every command of the first steps was run" in shown, shown
    assert "\nfor us alone\n" in shown, "the application reads what it wrote"
