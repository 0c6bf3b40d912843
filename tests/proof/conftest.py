"""The run that the checkers of chaos look at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from proof.chaos.checkers.evidence import Evidence
from tests.support.chaos_run import good_run


@pytest.fixture
def evidence() -> Iterator[Evidence]:
    """A good run; its folder goes away afterwards."""
    found = good_run()
    yield found
    shutil.rmtree(found.world.installation.folder)
