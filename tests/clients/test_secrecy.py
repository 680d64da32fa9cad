"""Runs last on each storage server: nothing of all that the clients wrote can be found in the storage server's files."""

import pytest

from scan import places_of


@pytest.mark.embedded
def test_nothing_of_all_that_the_clients_wrote_is_found(target):
    assert places_of(target.folder, target.marker) == []
