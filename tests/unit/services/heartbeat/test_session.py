"""The session's life as tables: what is known -> what is asked and what is said."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from services.heartbeat import session
from services.heartbeat.session import Ask, Command, GiveUp, Publish, Question, State, decide
from shared.domain.control import SessionHealth

S = 1_000_000_000
T0 = 1_700_000_000 * S
DAY_S = 86_400


def make_state() -> State:
    return State(
        renew_at_life_share=0.8,
        ask_within_ns=20 * S,
        retry_first_ns=1 * S,
        retry_max_ns=60 * S,
        refused_retry_ns=900 * S,
        credentials="c1",
    )


class Life:
    """A session whose clock is moved by hand; both clocks run alike."""

    def __init__(self) -> None:
        self.state = make_state()
        self.now_s = 0.0

    def at(self) -> dict[str, int]:
        ns = round(self.now_s * S)
        return {"now_ns": ns, "ts_ns": T0 + ns}

    def due(self) -> list[Command]:
        return decide(session.Due(**self.at()), self.state)

    def tick(self, seconds: float = 0.0, credentials: str = "c1") -> list[Command]:
        self.now_s += seconds
        return decide(session.Tick(credentials=credentials, **self.at()), self.state)

    def given(self, question: Question = Question.LOGIN, life_s: float = DAY_S) -> list[Command]:
        expires_at_ns = T0 + round((self.now_s + life_s) * S)
        event = session.TokenGiven(value_of=question, expires_at_ns=expires_at_ns, **self.at())
        return decide(event, self.state)

    def confirmed(self) -> list[Command]:
        return decide(session.Confirmed(**self.at()), self.state)

    def gone(self) -> list[Command]:
        return decide(session.Gone(reason="code 2", **self.at()), self.state)

    def unanswered(self, chance: float = 0.0, pause_s: float = 0.0) -> list[Command]:
        event = session.Unanswered(reason="HTTP 503", chance=chance, pause_s=pause_s, **self.at())
        return decide(event, self.state)

    def refused(self, *, fatal: bool = True) -> list[Command]:
        event = session.Refused(
            reason="invalid credentials (code 3)",
            remedy="Put the right key into the file.",
            fatal=fatal,
            chance=0.0,
            **self.at(),
        )
        return decide(event, self.state)

    @property
    def health(self) -> SessionHealth:
        return session.health(self.state, round(self.now_s * S))[0]


def asks(commands: list[Command]) -> list[Question]:
    return [c.question for c in commands if isinstance(c, Ask)]


def logged_in() -> Life:
    life = Life()
    assert asks(life.due()) == [Question.LOGIN]
    life.given()
    assert life.health is SessionHealth.ACTIVE
    return life


def test_first_turn_logs_in_then_each_turn_validates() -> None:
    life = logged_in()
    for _ in range(3):
        life.now_s += 60
        assert asks(life.due()) == [Question.VALIDATE]
        life.confirmed()
    assert life.state.ts_validated_ns == T0 + 180 * S


def test_one_question_at_a_time() -> None:
    life = Life()
    assert asks(life.due()) == [Question.LOGIN]
    assert asks(life.due()) == []
    assert asks(life.tick(1)) == []
    assert life.state.skipped_turns == 1


def test_a_token_that_is_refused_to_others_is_validated_at_once() -> None:
    life = Life()
    life.due()
    life.given()
    version = life.state.version
    life.now_s = 3.0

    def doubted(version: int) -> list[Question]:
        commands = decide(session.Doubted(version=version, **life.at()), life.state)
        return [one.question for one in commands if isinstance(one, Ask)]

    assert doubted(version - 1) == []  # that one is known to be old
    assert doubted(version) == [Question.VALIDATE]
    assert doubted(version) == []  # under way
    life.confirmed()
    assert doubted(version) == []  # just heard: it is good
    life.now_s += 2.0
    assert doubted(version) == [Question.VALIDATE]


def test_a_validation_that_brings_a_token_raises_the_version() -> None:
    life = logged_in()
    before = life.state.version
    life.now_s += 60
    life.due()
    (publish,) = life.given(Question.VALIDATE)
    assert isinstance(publish, Publish)
    assert publish.changed
    assert publish.state.token_version > before


def test_a_version_rises_also_when_the_bus_has_forgotten_it() -> None:
    assert logged_in().state.version >= T0 // S


def test_a_confirmation_changes_the_hash_and_not_the_stream() -> None:
    life = logged_in()
    life.now_s += 60
    life.due()
    (publish,) = life.confirmed()
    assert isinstance(publish, Publish)
    assert not publish.changed


@pytest.mark.parametrize(
    ("age_share", "expected"),
    [
        (0.79, []),
        (0.80, [Question.VALIDATE]),
    ],
)
def test_renewal_begins_at_80_percent_of_the_life(age_share: float, expected: list[Question]) -> None:
    life = logged_in()
    assert asks(life.tick(DAY_S * age_share)) == expected


def test_renewal_logs_in_when_validation_brought_nothing() -> None:
    life = logged_in()
    life.tick(DAY_S * 0.8)
    assert asks(life.confirmed()) == [Question.LOGIN]
    assert life.health is SessionHealth.RENEWING
    life.given()
    assert life.health is SessionHealth.ACTIVE


def test_a_gone_session_logs_in_at_once() -> None:
    life = logged_in()
    life.now_s += 60
    life.due()
    commands = life.gone()
    assert asks(commands) == [Question.LOGIN]
    assert life.health is SessionHealth.EXPIRED
    life.given()
    assert life.health is SessionHealth.ACTIVE


def test_no_answer_is_unknown_and_keeps_the_token() -> None:
    life = logged_in()
    life.now_s += 60
    life.due()
    life.unanswered()
    assert life.health is SessionHealth.UNKNOWN
    assert life.state.token is not None
    assert asks(life.tick(1.01)) == [Question.VALIDATE]
    life.confirmed()
    assert life.health is SessionHealth.ACTIVE


def test_a_token_expires_when_nothing_was_heard_for_its_whole_life() -> None:
    life = logged_in()
    life.now_s += 60
    life.due()
    life.unanswered(pause_s=2 * DAY_S)
    life.tick(DAY_S - 61)
    assert life.health is SessionHealth.UNKNOWN
    life.tick(2)
    assert life.health is SessionHealth.EXPIRED


def test_pauses_double_up_to_the_longest() -> None:
    life = Life()
    life.due()
    pauses = []
    for _ in range(9):
        life.unanswered()
        pause_s = life.state.retry_ns / S - life.now_s
        pauses.append(pause_s)
        assert asks(life.tick(pause_s - 0.001)) == []
        assert asks(life.tick(0.001)) == [Question.LOGIN]
    assert [round(p) for p in pauses] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_token_that_is_dead_on_arrival_is_a_failure_with_pauses_that_double() -> None:
    life = Life()
    life.due()
    pauses = []
    for _ in range(8):
        assert asks(life.given(life_s=-3_600)) == []
        assert life.health is SessionHealth.UNKNOWN
        pause_s = life.state.retry_ns / S - life.now_s
        pauses.append(pause_s)
        assert asks(life.tick(pause_s - 0.001)) == []
        assert asks(life.tick(0.001)) == [Question.LOGIN]
    assert [round(p) for p in pauses] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert "check this machine's clock" in session.health(life.state, 0)[1]
    life.given()
    assert life.health is SessionHealth.ACTIVE


def test_a_new_token_that_is_dead_on_arrival_leaves_the_old_one() -> None:
    life = logged_in()
    version = life.state.version
    life.tick(DAY_S * 0.8)
    life.given(Question.VALIDATE, life_s=0)
    assert life.state.token is not None
    assert life.state.version == version
    assert life.health is SessionHealth.UNKNOWN
    assert asks(life.tick(1.01)) == [Question.VALIDATE]


def test_jitter_only_shortens_and_the_brokers_wish_counts() -> None:
    life = Life()
    life.due()
    life.unanswered(chance=1.0)
    assert life.state.retry_ns == round(0.8 * S)
    life.tick(1)
    life.unanswered(pause_s=30)
    assert life.state.retry_ns == 31 * S


def test_refused_credentials_are_not_tried_in_a_loop() -> None:
    life = Life()
    life.tick()
    life.due()
    commands = life.refused()
    assert life.health is SessionHealth.REFUSED
    (publish,) = [c for c in commands if isinstance(c, Publish)]
    assert "Put the right key" in publish.state.reason
    for _ in range(14):
        assert asks(life.tick(60)) == []
        assert asks(life.due()) == []
    assert asks(life.tick(60)) == [Question.LOGIN]


def test_a_changed_file_lifts_a_refusal_once() -> None:
    life = Life()
    life.tick()
    life.due()
    life.refused()
    assert asks(life.tick(1, credentials="c2")) == [Question.LOGIN]
    life.refused()
    assert asks(life.tick(1, credentials="c2")) == []
    assert asks(life.tick(1, credentials="c3")) == [Question.LOGIN]
    life.given()
    assert life.health is SessionHealth.ACTIVE


def test_a_refusal_that_may_pass_is_repeated() -> None:
    life = Life()
    life.due()
    life.refused(fatal=False)
    assert life.health is SessionHealth.UNKNOWN
    assert asks(life.tick(1.01)) == [Question.LOGIN]


def test_a_refused_renewal_keeps_the_old_token_working() -> None:
    life = logged_in()
    life.tick(DAY_S * 0.8)
    life.confirmed()
    life.refused()
    assert life.health is SessionHealth.RENEWING
    life.tick(DAY_S * 0.2)
    assert life.health is SessionHealth.REFUSED


def test_a_question_that_hangs_is_given_up_and_asked_again() -> None:
    life = Life()
    life.due()
    assert life.tick(20) == []
    commands = life.tick(0.1)
    assert GiveUp(question=Question.LOGIN) in commands
    assert asks(life.tick(1.01)) == [Question.LOGIN]


def test_an_earlier_token_is_validated_before_it_counts() -> None:
    life = Life()
    adopted = session.Adopted(version=7, expires_at_ns=T0 + DAY_S * S, **life.at())
    decide(adopted, life.state)
    assert life.health is SessionHealth.UNKNOWN
    assert asks(life.due()) == [Question.VALIDATE]
    life.confirmed()
    assert life.health is SessionHealth.ACTIVE
    assert life.state.token is not None
    assert life.state.token.version == 7


def test_an_earlier_token_that_has_expired_only_lends_its_version() -> None:
    life = Life()
    adopted = session.Adopted(version=2**40, expires_at_ns=T0, **life.at())
    assert asks(decide(adopted, life.state)) == [Question.LOGIN]
    life.given()
    assert life.state.version == 2**40 + 1


def login_times_s(life: Life, answer: Callable[[Question], list[Command]], until_s: float) -> list[float]:
    """Let time pass with answers that come at once; return when a login was asked for."""
    times_s = []
    commands = life.due()
    while life.now_s < until_s:
        while questions := asks(commands):
            if questions[0] is Question.LOGIN:
                times_s.append(life.now_s)
            commands = answer(questions[0])
        commands = life.tick(0.25)
    return times_s


def test_logins_that_fail_while_the_old_token_works_keep_their_pauses() -> None:
    life = logged_in()
    life.tick(DAY_S * 0.8)

    def answer(question: Question) -> list[Command]:
        return life.unanswered() if question is Question.LOGIN else life.confirmed()

    times_s = login_times_s(life, answer, life.now_s + 400)
    pauses_s = [later - earlier for earlier, later in pairwise(times_s)]
    assert pauses_s[:6] == [1, 2, 4, 8, 16, 32]
    assert min(pauses_s[6:]) >= 60
    assert life.health is SessionHealth.RENEWING


def test_tokens_that_no_validation_accepts_do_not_bring_one_login_after_the_other() -> None:
    life = Life()

    def answer(question: Question) -> list[Command]:
        if question is Question.VALIDATE:
            return life.gone()
        life.given()
        life.now_s += 0.25
        return life.due()  # somebody was refused, or the interval is over

    times_s = login_times_s(life, answer, 200)
    pauses_s = [later - earlier for earlier, later in pairwise(times_s)]
    assert pauses_s[:6] == [1, 2, 4, 8, 16, 32]
    assert min(pauses_s[6:]) >= 60


def test_a_login_that_was_proven_ends_the_pauses() -> None:
    life = Life()
    life.due()
    life.unanswered()
    assert asks(life.tick(1)) == [Question.LOGIN]
    life.given()
    assert asks(life.due()) == [Question.VALIDATE]
    life.confirmed()
    assert not life.state.logins_in_vain
    life.due()
    assert asks(life.gone()) == [Question.LOGIN]
