"""Heartbeat on a real bus with a broker that does what the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.heartbeat.config import HeartbeatSection
from services.heartbeat.shell import Shell
from shared.broker.errors import HttpFailed
from shared.broker.port import (
    LoggedIn,
    LoginRefused,
    SessionGone,
    SessionPort,
    SessionToken,
    Validated,
)
from shared.bus.bus import RedisBus
from shared.domain.control import Beat, Duty, Halt, ProcessHealth, ProcessJudged, Resume, SessionHealth
from shared.domain.control import SessionState as Published
from shared.runtime.clock import SystemClock
from shared.runtime.config import BrokerSection
from shared.runtime.session import STATE_FIELD, SessionWatch
from shared.wire import topics
from shared.wire.codec import decode, encode
from tests.support.buses import make_bus, run
from tests.support.eventually import eventually
from tests.support.service_context import running, service_context
from tests.support.valkey import ValkeyServer, running_valkey

pytestmark = pytest.mark.integration
S = 1_000_000_000
FAST = {"validate_interval_s": 0.2, "retry_first_s": 0.05, "retry_max_s": 0.2}


class FakeBroker:
    """A session port whose answers a test sets."""

    def __init__(self) -> None:
        self.logins = 0
        self.validations = 0
        self.refusal: LoginRefused | None = None
        self.away = False
        self.hanging = False
        self.gone = False
        self.give_new_token = False
        self.life_s = 3_600.0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SessionPort]:
        yield self

    async def login(self) -> LoggedIn | LoginRefused:
        await self._answer()
        self.logins += 1
        if self.refusal is not None:
            return self.refusal
        self.gone = False
        return LoggedIn(token=self._token(f"login-token-{self.logins}"))

    async def validate(self, token: SessionToken) -> Validated | SessionGone:
        await self._answer()
        self.validations += 1
        if self.gone:
            return SessionGone(reason="code 2")
        new = self._token(f"renewed-token-{self.validations}") if self.give_new_token else None
        return Validated(new_token=new)

    async def logout(self, token: SessionToken) -> None:
        raise AssertionError("other processes still use the session")

    async def _answer(self) -> None:
        if self.hanging:
            await asyncio.Event().wait()
        if self.away:
            raise HttpFailed(endpoint="/api/Auth", reason="not answered with 200", http_status=503)

    def _token(self, value: str) -> SessionToken:
        return SessionToken(value=value, expires_at_ns=time.time_ns() + round(self.life_s * S))


class Stage:
    """A running heartbeat, seen from outside."""

    def __init__(self, server: ValkeyServer, bus: RedisBus, broker: FakeBroker) -> None:
        self.server, self.bus, self.broker = server, bus, broker

    async def state(self) -> Published | None:
        value = (await self.bus.hash_get(topics.SESSION_STATE)).get(STATE_FIELD)
        found = decode(b"session_state", value) if value else None
        assert found is None or isinstance(found, Published)
        return found

    async def is_health(self, health: SessionHealth) -> bool:
        state = await self.state()
        return state is not None and state.health is health

    async def becomes(self, health: SessionHealth) -> None:
        async def holds() -> bool:
            return await self.is_health(health)

        await eventually(holds, what=f"session {health}")

    async def controls(self) -> list[Halt | Resume]:
        found = [decode(e.kind, e.value) for e in await self.bus.last(topics.CONTROL_HEARTBEAT, 100)]
        return [m for m in found if isinstance(m, Halt | Resume)]

    async def verdict(self, process: str) -> ProcessHealth | None:
        value = (await self.bus.hash_get(topics.SESSION_STATE)).get(f"process:{process}")
        judged = decode(b"process_judged", value) if value else None
        assert judged is None or isinstance(judged, ProcessJudged)
        return None if judged is None else judged.health


@asynccontextmanager
async def heartbeat(
    broker: FakeBroker | None = None, *, key_file: Path | None = None, **settings: object
) -> AsyncIterator[Stage]:
    broker = broker or FakeBroker()
    config = HeartbeatSection.model_validate({**FAST, **settings})
    with running_valkey() as server:
        bus = make_bus(server.address)
        await bus.ready()
        section = BrokerSection(api_key_file=key_file)
        async with (
            service_context(server.address, "heartbeat", config, broker=section) as ctx,
            running(Shell(ctx, broker.open).run()),
        ):
            yield Stage(server, bus, broker)


def test_logs_in_and_validates_on_schedule() -> None:
    async def scenario() -> None:
        async with heartbeat() as stage:
            await stage.becomes(SessionHealth.ACTIVE)
            assert await stage.bus.get(topics.SESSION_TOKEN) == b"login-token-1"

            async def validated() -> bool:
                return stage.broker.validations >= 5

            began = time.monotonic()
            await eventually(validated)
            assert time.monotonic() - began >= 0.5  # four turns of 0.2 s at least, on schedule
            assert stage.broker.logins == 1

    run(scenario)


def test_a_new_token_reaches_every_watch() -> None:
    async def scenario() -> None:
        broker = FakeBroker()
        async with heartbeat(broker) as stage:
            watch = SessionWatch(stage.bus, SystemClock())
            async with asyncio.timeout(5):
                await watch.wait_token()
            assert watch.token() == "login-token-1"
            broker.give_new_token = True

            async def renewed() -> bool:
                await watch.refresh()
                return str(watch.token()).startswith("renewed-token")

            await eventually(renewed)

    run(scenario)


def test_a_token_that_is_dead_on_arrival_does_not_replace_one_that_lives() -> None:
    async def scenario() -> None:
        broker = FakeBroker()
        async with heartbeat(broker) as stage:
            await stage.becomes(SessionHealth.ACTIVE)
            broker.give_new_token, broker.life_s = True, -3_600.0
            await stage.becomes(SessionHealth.UNKNOWN)
            assert await stage.bus.get(topics.SESSION_TOKEN) == b"login-token-1"
            broker.life_s = 3_600.0
            await stage.becomes(SessionHealth.ACTIVE)
            assert broker.logins == 1

    run(scenario)


def test_a_broker_that_is_away_means_unknown_and_the_token_stays() -> None:
    async def scenario() -> None:
        broker = FakeBroker()
        async with heartbeat(broker) as stage:
            await stage.becomes(SessionHealth.ACTIVE)
            broker.away = True
            await stage.becomes(SessionHealth.UNKNOWN)
            assert await stage.bus.get(topics.SESSION_TOKEN) == b"login-token-1"
            broker.away = False
            await stage.becomes(SessionHealth.ACTIVE)
            assert broker.logins == 1

    run(scenario)


def test_a_session_that_is_gone_is_replaced() -> None:
    async def scenario() -> None:
        broker = FakeBroker()
        async with heartbeat(broker) as stage:
            await stage.becomes(SessionHealth.ACTIVE)
            broker.gone = True

            async def replaced() -> bool:
                return await stage.bus.get(topics.SESSION_TOKEN) == b"login-token-2"

            await eventually(replaced)
            await stage.becomes(SessionHealth.ACTIVE)

    run(scenario)


def test_a_token_that_another_process_is_refused_is_replaced_at_once() -> None:
    async def scenario() -> None:
        broker = FakeBroker()
        async with heartbeat(broker, validate_interval_s=60) as stage:
            await stage.becomes(SessionHealth.ACTIVE)
            watch = SessionWatch(stage.bus, SystemClock())
            running = asyncio.create_task(watch.run())
            await watch.wait_token()
            for nonsense in (b"", b"soon", b"-1", b"9" * 5_000):
                await stage.bus.publish(topics.SESSION_DOUBTS, nonsense)
            broker.gone = True

            async def replaced() -> bool:
                watch.refused()  # as its next request would be
                return watch.token() == "login-token-2"

            await eventually(replaced, within_s=15.0)
            running.cancel()

    run(scenario)


def test_a_short_token_is_renewed_before_it_expires() -> None:
    async def scenario() -> None:
        broker = FakeBroker()
        broker.life_s = 2.0
        async with heartbeat(broker, validate_interval_s=60) as stage:
            await stage.becomes(SessionHealth.ACTIVE)

            async def renewed() -> bool:
                assert not await stage.is_health(SessionHealth.EXPIRED)
                return broker.logins >= 3

            await eventually(renewed)

    run(scenario)


def test_refused_credentials_wait_for_a_changed_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        key_file = tmp_path / "key"
        key_file.write_text("wrong")
        broker = FakeBroker()
        broker.refusal = LoginRefused(
            code=3, sentence="The credentials are wrong.", remedy="Correct the key file.", fatal=True
        )
        async with heartbeat(broker, key_file=key_file) as stage:
            await stage.becomes(SessionHealth.REFUSED)
            state = await stage.state()
            assert state is not None
            assert "Correct the key file." in state.reason
            turns = 0

            async def some_turns_later() -> bool:
                nonlocal turns
                turns += 1
                return turns > 60

            await eventually(some_turns_later)
            assert broker.logins == 1
            broker.refusal = None
            key_file.write_text("now right")
            await stage.becomes(SessionHealth.ACTIVE)
            assert broker.logins == 2

    run(scenario)


def test_an_emptied_redis_is_filled_again() -> None:
    async def scenario() -> None:
        async with heartbeat() as stage:
            await stage.becomes(SessionHealth.ACTIVE)
            before = await stage.state()
            await asyncio.to_thread(_flush_all, stage.server)

            async def all_there() -> bool:
                after = await stage.state()
                return (
                    after is not None
                    and before is not None
                    and after.token_version == before.token_version
                    and await stage.bus.get(topics.SESSION_TOKEN) == b"login-token-1"
                    and bool(await stage.controls())
                    and bool(await stage.bus.length(topics.SESSION))
                )

            await eventually(all_there)
            assert stage.broker.logins == 1

    run(scenario)


def test_a_restart_takes_the_token_it_finds() -> None:
    async def scenario() -> None:
        broker = FakeBroker()
        config = HeartbeatSection.model_validate(FAST)
        with running_valkey() as server:
            for _ in range(2):
                bus = make_bus(server.address)
                await bus.ready()
                stage = Stage(server, bus, broker)
                async with (
                    service_context(server.address, "heartbeat", config) as ctx,
                    running(Shell(ctx, broker.open).run()),
                ):
                    seen = broker.validations

                    async def validated(seen: int = seen) -> bool:
                        return broker.validations > seen

                    await eventually(validated)
                    await stage.becomes(SessionHealth.ACTIVE)
        assert broker.logins == 1

    run(scenario)


def test_judging_goes_on_while_the_broker_hangs() -> None:
    async def scenario() -> None:
        broker = FakeBroker()
        broker.hanging = True
        async with heartbeat(broker, vital=["feed"], resume_after_s=0.2) as stage:
            feed = Feed(stage.bus)
            async with running(feed.run()):

                async def resumed() -> bool:
                    return any(isinstance(c, Resume) for c in await stage.controls())

                await eventually(resumed)

    run(scenario)


class Feed:
    """Another process, as far as heartbeat can see: its beats."""

    def __init__(self, bus: RedisBus, started_at_ns: int = 1) -> None:
        self._bus = bus
        self._started_at_ns = started_at_ns
        self.done = 0
        self.stuck = False
        self.silent = False

    async def run(self) -> None:
        seq = 0
        while not self.silent:
            seq += 1
            self.done += not self.stuck
            duty = Duty(interval_s=0.2, done=self.done)
            beat = Beat(
                process="feed", pid=1, host="h", build="test", ts_ns=time.time_ns(),
                started_at_ns=self._started_at_ns,
                seq=seq, ready=True, duties={"watch": duty},
            )  # fmt: skip
            await self._bus.set_and_publish(topics.beat("feed"), topics.BEATS, encode(beat))
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("how", ["silent", "stuck"])
def test_a_lost_process_halts_within_5_s_and_its_return_resumes(how: str) -> None:
    async def scenario() -> None:
        async with heartbeat(vital=["feed"], resume_after_s=0.2) as stage:

            async def last_is(kind: type[Halt] | type[Resume]) -> bool:
                controls = await stage.controls()
                return bool(controls) and isinstance(controls[-1], kind)

            async def feed_is(health: ProcessHealth) -> bool:
                return await stage.verdict("feed") is health

            feed = Feed(stage.bus)
            async with running(feed.run()):
                await eventually(lambda: last_is(Resume))
                if how == "silent":
                    feed.silent = True
                else:
                    feed.stuck = True
                await eventually(lambda: last_is(Halt), within_s=5)
                await eventually(lambda: feed_is(ProcessHealth.DEAD))  # the hash follows the streams
            async with running(Feed(stage.bus, started_at_ns=2).run()):
                await eventually(lambda: last_is(Resume))

    run(scenario)


def _flush_all(server: ValkeyServer) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket))
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(16) == b"+OK\r\n"
