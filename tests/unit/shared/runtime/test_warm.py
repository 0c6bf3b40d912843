from __future__ import annotations

import pytest

from shared.runtime.service import EXIT_SETTINGS
from shared.runtime.warm import is_final, pause_s


@pytest.mark.parametrize(
    ("short_lives", "pause"),
    [(0, 0.0), (1, 0.0), (2, 0.1), (3, 0.2), (5, 0.8), (7, 3.2), (8, 5.0), (500, 5.0)],
)
def test_the_first_restart_is_free_and_a_crash_loop_slows_down(short_lives: int, pause: float) -> None:
    assert pause_s(short_lives) == pytest.approx(pause)


@pytest.mark.parametrize(("code", "final"), [(0, True), (EXIT_SETTINGS, True), (1, False), (-9, False)])
def test_only_an_own_end_is_final(code: int, final: bool) -> None:
    assert is_final(code) is final
