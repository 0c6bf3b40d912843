"""Running a process: settings, logs, event loop, signals, beats, and one outermost loop for its errors.

Every service is started the same way: `serve("feed", FeedConfig, run)`, where `run(ctx)` is its shell. A
process that is asked to stop cancels its shell; one whose shell fails logs why and exits with 1, and the
supervisor starts it again through the same path as the first time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from shared.bus.bus import RedisBus
from shared.bus.port import Bus, BusAway, BusRefused
from shared.runtime.beat import BeatBoard
from shared.runtime.build import BUILD
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.config import (
    BrokerSection,
    JulieSection,
    RedisSection,
    Settings,
    SettingsRefused,
    shared_settings_hash,
)
from shared.runtime.logs import Log, set_up_logs

EXIT_SETTINGS = 78
"""sysexits' EX_CONFIG: starting again will not help; supervisor.conf knows it as an expected code."""

BUS_RETRY_S = 0.5
SHUTDOWN_TIMEOUT_S = 5.0

ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Generic[ConfigT]):
    """All that a shell gets: its settings and its ports."""

    process: str
    config: ConfigT
    julie: JulieSection
    broker: BrokerSection
    settings_hash: str
    clock: Clock
    rng: random.Random
    bus: Bus
    beat: BeatBoard
    log: Log

    def refuse(self, origin: str, why: str, raw: bytes) -> None:
        """Count input that cannot be used and keep its beginning for people; see `quarantine`."""
        self.beat.refused.keep(ts_ns=self.clock.now_ns(), origin=origin, why=why, raw=raw)


Run = Callable[[Context[ConfigT]], Awaitable[None]]


def serve(service: str, section: type[ConfigT], run: Run[ConfigT], *, process: str | None = None) -> None:
    """Run one service until it is told to stop; never returns.

    Args:
        service: Its section in the settings.
        section: Model of that section.
        run: The shell: returns or is cancelled at the end.
        process: Name in beats and logs when it differs from the service (several instances).
    """
    hold_halt_signal()
    name = process or service
    settings = Settings.read()
    try:
        parts = settings.sections(
            julie=JulieSection, redis=RedisSection, broker=BrokerSection, **{service: section}
        )
        julie, redis, broker, config = parts["julie"], parts["redis"], parts["broker"], parts[service]
        assert isinstance(julie, JulieSection)
        assert isinstance(redis, RedisSection)
        assert isinstance(broker, BrokerSection)
        assert isinstance(config, section)
        address = redis.address(julie.data_dir)
    except SettingsRefused as refused:
        print(f"{name}: {refused}", file=sys.stderr)  # noqa: T201  before there are logs
        sys.exit(EXIT_SETTINGS)
    log = set_up_logs(name, julie.log_level)
    clock = SystemClock()

    async def main() -> None:
        bus = RedisBus(address, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
        beat = BeatBoard(
            process=name, clock=clock, bus=bus, interval_s=julie.beat_interval_s, pid=os.getpid(),
            host=socket.gethostname(), build=BUILD, settings=shared_settings_hash(julie, broker),
        )  # fmt: skip
        context = Context(
            process=name, config=config, julie=julie, broker=broker, settings_hash=settings.fingerprint(),
            clock=clock, rng=random.Random(), bus=bus, beat=beat, log=log,
        )  # fmt: skip
        await supervise(context, run)

    sys.exit(_run_loop(name, main, log))


def hold_halt_signal() -> None:
    """Have SIGUSR1 wait for somebody who hears it: a person pulls it just when Redis is away."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))


def hear_halt_signal(hear: Callable[[], None]) -> None:
    """Call `hear` at SIGUSR1, and for one that came before."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, hear)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1,))


async def supervise(context: Context[ConfigT], run: Run[ConfigT]) -> None:
    """Wait for the bus, then run the shell with its beats until it ends or a signal comes."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(_with_beats(context, run), name=context.process)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        context.log.info("stopped")
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                await context.bus.close()


async def _with_beats(context: Context[ConfigT], run: Run[ConfigT]) -> None:
    await wait_for_bus(context.bus, context.clock, context.log)
    context.log.info("started", build=BUILD, settings=context.settings_hash, pid=os.getpid())
    beats = asyncio.create_task(context.beat.run(), name="beats")
    try:
        await run(context)
    finally:
        beats.cancel()
        await asyncio.gather(beats, return_exceptions=True)


async def wait_for_bus(bus: Bus, clock: Clock, log: Log) -> None:
    """Return when Redis answers; say once, then every ten seconds, that it does not."""
    tries = 0
    while True:
        try:
            await bus.ready()
        except (BusAway, BusRefused) as error:
            if tries % 20 == 0:
                log.warning("redis_away", why=str(error), remedy="start Redis, or correct redis.url")
            tries += 1
            await clock.sleep(BUS_RETRY_S)
        else:
            return


def _run_loop(process: str, main: Callable[[], Awaitable[None]], log: Log) -> int:
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:
        factory = None
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_await(main))
    except KeyboardInterrupt:
        return 0
    except SettingsRefused as refused:
        print(f"{process}: {refused}", file=sys.stderr)  # noqa: T201  as those found before there are logs
        return EXIT_SETTINGS
    except Exception:
        log.exception("failed")
        return 1
    return 0


async def _await(main: Callable[[], Awaitable[None]]) -> None:
    await main()
