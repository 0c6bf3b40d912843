"""Bugs of heartbeat, to be planted and caught; see `planting`."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec

import services.execution.core as execution_core
import services.execution.shell as execution_shell
from proof.simulation.planting import Patches, bug
from services.execution.events import HeartbeatHeard
from services.heartbeat import core, keeper, session
from services.heartbeat.board import Board
from services.heartbeat.session import Question, State
from shared.bus.writer import OneStreamWriter
from shared.domain.control import Halt, ProcessHealth, SessionHealth


@bug(caught_in=0)
def session_called_active_although_validation_failed() -> Patches:
    """A token that was given once is good for as long as it says, whatever the broker says now."""
    decide = session.decide

    def trusting(event: session.Event, state: State) -> list[session.Command]:
        if isinstance(event, session.Gone | session.Unanswered) and state.token is not None:
            event = session.Confirmed(now_ns=event.now_ns, ts_ns=event.ts_ns)
        return decide(event, state)

    return [patch.object(session, "decide", trusting)]


@bug(caught_in=0)
def token_not_renewed_after_a_refusal() -> Patches:
    """A token that the broker refuses is kept, and the login comes when its life is over."""
    decide = session.decide

    def keeping(event: session.Event, state: State) -> list[session.Command]:
        if isinstance(event, session.Gone) and state.token is not None:
            state.asking, state.failure, state.failures = None, "", 0
            return []
        return decide(event, state)

    return [patch.object(session, "decide", keeping)]


@bug(caught_in=33)
def silent_process_not_halted() -> Patches:
    """Who is silent is called dead, and nothing follows from it once trading goes on."""
    decide = core.decide

    def silent(event: core.Event, state: core.State) -> list[core.Command]:
        lost = state.halted is False
        return [one for one in decide(event, state) if not (lost and isinstance(one, Halt))]

    return [patch.object(core, "decide", silent)]


@bug(caught_in=0)
def halt_lifted_by_one_beat() -> Patches:
    """One beat of each is enough, whatever it says of its work and however long ago it was."""

    def well(process: core.Process, state: core.State) -> bool:
        return process.health in (ProcessHealth.ALIVE, ProcessHealth.LATE, ProcessHealth.STARTING)

    def at_once(tick: core.Tick, state: core.State) -> list[core.Command]:
        state.resume_after_ns = 0
        return halt_or_resume(tick, state)

    halt_or_resume = core._halt_or_resume
    return [patch.object(core, "_is_well", well), patch.object(core, "_halt_or_resume", at_once)]


@bug(caught_in=5)
def login_repeated_without_pause() -> Patches:
    """A login that failed is repeated as soon as its failure is known."""
    question = session._question

    def at_once(now_ns: int, state: State) -> Question | None:
        state.retry_ns, state.logins_in_vain = 0, 0
        return question(now_ns, state)

    return [patch.object(session, "_question", at_once)]


@bug(caught_in=0)
def token_told_in_the_reason() -> Patches:
    """The error text quotes the header of the request that failed."""
    publish = keeper.Keeper._publish

    def telling(self: keeper.Keeper, state: Any, *, changed: bool) -> None:
        if self._token is not None and state.health is not SessionHealth.ACTIVE:
            reason = f"{state.reason} (Authorization: {self._token.value})"
            state = msgspec.structs.replace(state, reason=reason)
        publish(self, state, changed=changed)

    return [patch.object(keeper.Keeper, "_publish", telling)]


@bug(caught_in=2)
def older_heartbeat_writes_over_its_successor() -> Patches:
    """What has been decided is written, whoever has taken over since."""

    async def at_once(self: OneStreamWriter) -> None: ...

    async def same(self: Board) -> str:
        return ""

    return [patch.object(OneStreamWriter, "flush", at_once), patch.object(Board, "_differs", same)]


@bug(caught_in=50)
def beats_that_waited_taken_for_fresh() -> Patches:
    """Execution takes every beat of heartbeat for as new as it is heard, also after it was frozen."""
    decide = execution_core.decide

    def fresh(event: Any, state: Any) -> Any:
        if isinstance(event, HeartbeatHeard):
            event = msgspec.structs.replace(event, age_ns=0)
        return decide(event, state)

    return [
        patch.object(execution_shell, "decide", fresh),
        patch.object(execution_shell.Shell, "_waking", lambda self, now_ns: False),
    ]
