from __future__ import annotations

import pytest

from shared.broker.projectx.enums import LOGIN_ADVICE, LoginErrorCode, login_advice


def test_every_login_refusal_has_words_and_a_remedy() -> None:
    assert LOGIN_ADVICE.keys() == set(LoginErrorCode) - {LoginErrorCode.SUCCESS}
    assert all(
        advice.sentence.endswith(".") and advice.remedy.endswith(".") for advice in LOGIN_ADVICE.values()
    )


@pytest.mark.parametrize(
    ("code", "fatal"), [(3, True), (7, True), (9, True), (10, True), (8, False), (0, False), (99, False)]
)
def test_only_what_a_person_must_mend_is_fatal(code: int, fatal: bool) -> None:
    assert login_advice(code).fatal is fatal


def test_unlisted_login_code_is_named() -> None:
    assert "99" in login_advice(99).sentence
