"""`julie up` and `julie down`: every process under supervisor, around an embedded Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from julie.installation import Installation, SettingsRefused, check_settings, remember_active
from julie.processes import PROCESSES, Process
from julie.programs import last_words, stopped_programs
from julie.status import read_beats
from julie.tail import follow_orders
from services.strategy.config import StrategySection
from shared.bus.bus import RedisBus
from shared.bus.port import BusAway, BusRefused
from shared.domain.control import Beat
from shared.runtime.config import JulieSection, run_dir
from shared.runtime.service import EXIT_SETTINGS
from shared.wire import topics

HOME = Path(__file__).resolve().parents[1]
READY_TIMEOUT_S = 60.0
REPLAY_SPEED = 60.0
STOP_TIMEOUT_S = 40.0
LOOK_INTERVAL_S = 1.0
"""Between two questions to supervisor, who has stopped."""

WITHOUT_ONE_S = 5.0
"""When one has stopped for good, those that can do without it are ready within this."""

FRESH_NS = 3_000_000_000
SAID_CHARS_MAX = 400


def replay_variables(base: Installation, file: Path, speed: float, symbol: str) -> dict[str, str]:
    """Return the settings that turn an installation into the replay of a recorded market.

    Each replay has a data folder of its own: its clock, orders and streams are of another day. Strategy
    instances that trade the symbol take part; if there is none, the example does.
    """
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = base.julie.data_dir.absolute() / f"replay-{file.name.split('.')[0]}-{started}"
    strategy = base.settings.section("strategy", StrategySection)
    instances = [one for one in strategy.instances if symbol in one.symbols]
    example = {
        "id": f"breakout-{symbol.lower()}",
        "class": "strategies.breakout:Breakout",
        "symbols": [symbol],
    }
    chosen = [one.model_dump(mode="json", by_alias=True) for one in instances] or [example]
    return {
        "JULIE_JULIE__DATA_DIR": str(folder),
        "JULIE_JULIE__SYMBOLS": json.dumps([symbol]),
        "JULIE_JULIE__MARKET_CLOCK": "venue",
        "JULIE_JULIE__MARKET_SPEED": str(speed),
        "JULIE_SIMULATOR__SOURCE": "replay",
        "JULIE_SIMULATOR__REPLAY_FILE": str(file.resolve()),
        "JULIE_SIMULATOR__REPLAY_SYMBOL": symbol,
        "JULIE_STRATEGY__INSTANCES": json.dumps(chosen),
    }


class Supervised:
    """The supervisor process of one installation."""

    def __init__(self, installation: Installation, variables: Mapping[str, str]) -> None:
        self.installation = installation
        self.run_dir = installation.run_dir
        self.data_dir = installation.julie.data_dir.absolute()
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    def start(self, *, simulator: bool) -> None:
        """Start supervisor with every process."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.run_dir.chmod(0o700)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        environment = os.environ | dict(self._variables)
        environment |= {
            "JULIE_HOME": str(HOME),
            "JULIE_PYTHON": sys.executable,
            "JULIE_RUN_DIR": str(self.run_dir),
            "JULIE_DATA_DIR": str(self.data_dir),
            "JULIE_LOG_DIR": str(self.log_dir),
            "JULIE_CONFIG": str(Path(self.installation.settings.source).absolute()),
            "JULIE_SIMULATOR": str(simulator).lower(),
            "JULIE_EMBEDDED_BUS": str(
                self.installation.address.unix_path == str(self.run_dir / "redis.sock")
            ).lower(),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(HOME / "supervisord.conf")]
        # A session of its own: Ctrl-C reaches us alone, and we stop the others in order.
        # Not our standard output either: who waits for its end would wait for ever.
        with (self.log_dir / "supervisord.out").open("ab") as out:
            self._process = subprocess.Popen(
                command,
                env=environment,
                cwd=HOME,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def poll(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def stop(self) -> None:
        assert self._process is not None
        stop_pid(self._process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)


def running_pid(folder: Path) -> int | None:
    """Return the pid of the running supervisor, None if there is none."""
    try:
        pid = int((folder / "supervisord.pid").read_text())
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and b"supervisord" not in command.read_bytes():
            return None  # the pid was given to somebody else after a crash of the machine
    except (OSError, ValueError):
        return None
    return pid


def stop_pid(pid: int) -> None:
    """Ask supervisor to stop everything in order, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
        except ChildProcessError:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
        time.sleep(0.05)


def needs_simulator(installation: Installation) -> bool:
    """The simulator runs when the broker's address is this machine."""
    return "://127.0.0.1" in installation.broker.rest_url or "://localhost" in installation.broker.rest_url


def promise_of(process: Process, sections: Mapping[str, BaseModel]) -> str:
    julie = sections["julie"]
    assert isinstance(julie, JulieSection)
    return process.promise.format(**sections, symbols=", ".join(julie.symbols))


def ready_line(name: str, took_s: float, promise: str) -> Table:
    """Return one line; a promise longer than the terminal is wide continues below itself."""
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=len("ready 60.0 s"), no_wrap=True)
    line.add_column(width=max(len(one.name) for one in PROCESSES), no_wrap=True)
    line.add_column()
    line.add_row(f"[green]ready[/green] {took_s:4.1f} s", f"[bold]{name}[/bold]", promise)
    return line


async def announce(
    installation: Installation, supervised: Supervised, console: Console, *, simulator: bool
) -> int:
    """Print one line per process as it becomes ready, and why one does not. Returns the exit code."""
    sections = installation.all_sections()
    waiting = {p.name: p for p in PROCESSES if simulator or not p.optional}
    bus = installation.bus()
    started = time.monotonic()
    looked = started
    said: dict[str, str] = {}
    code = 0
    until = started + READY_TIMEOUT_S
    try:
        while waiting and time.monotonic() < until:
            if supervised.poll() is not None:
                console.print(f"[red]supervisor stopped[/red]; see {supervised.log_dir}/supervisord.log")
                return 1
            for beat in await _beats(bus):
                name = beat.process.partition("@")[0]
                if name not in waiting or time.time_ns() - beat.ts_ns > FRESH_NS:
                    continue
                said[name] = _what_it_waits_for(beat)
                if beat.ready:
                    process = waiting.pop(name)
                    took_s = time.monotonic() - started
                    console.print(ready_line(name, took_s, promise_of(process, sections)))
            if time.monotonic() - looked >= LOOK_INTERVAL_S:
                looked = time.monotonic()
                if (stopped := await _tell_stopped(supervised, waiting, console)) and not code:
                    code = stopped
                    until = min(until, time.monotonic() + WITHOUT_ONE_S)
            if "session: refused" in said.get("heartbeat", ""):
                break  # a person has to act: nobody else will be ready before
            await asyncio.sleep(0.1)
    finally:
        await bus.close()
    for name in waiting:
        words = said.get(name) or last_words(supervised.log_dir / f"{name}.log")
        why = f" {escape(words)};" if words else ""
        console.print(
            f"[red]not ready[/red]  {name}:{why} see {supervised.log_dir}/{name}.log, or `julie doctor`",
            soft_wrap=True,
        )
    return code or (1 if waiting else 0)


def _what_it_waits_for(beat: Beat) -> str:
    """Return what a process that is not ready says of itself."""
    words = [f"{name}: {text}" for name, text in beat.detail.items()]
    # Most wait for the session, in the end: heartbeat's word on it comes first.
    words.sort(key=lambda word: not word.startswith("session"))
    return "; ".join(words)[:SAID_CHARS_MAX]


async def _tell_stopped(supervised: Supervised, waiting: dict[str, Process], console: Console) -> int:
    """Name processes that have ended for good, with their last words; the others go on. Returns a code."""
    code = 0
    for one in await asyncio.to_thread(stopped_programs, supervised.run_dir, supervised.log_dir):
        if waiting.pop(one.name, None) is None:
            continue
        code = code or one.code or 1
        what = (
            "its settings cannot be used" if one.code == EXIT_SETTINGS else f"it ended with code {one.code}"
        )
        console.print(
            f"[red]stopped[/red]  {one.name}: {what}; correct it, then `julie down` and `julie up`\n"
            f"{escape(one.said)}",
            soft_wrap=True,
            highlight=False,
        )
    return code


async def _beats(bus: RedisBus) -> list[Beat]:
    try:
        return await read_beats(bus)
    except (BusAway, BusRefused):
        return []  # the server is still on its way up


def up(*, replay: Path | None, speed: float | None, symbol: str, detach: bool, console: Console) -> int:
    """Start everything; stay until Ctrl-C, or return at once with `detach`. Returns the exit code."""
    check_settings({})
    variables: dict[str, str] = {}
    if replay is not None:
        if not replay.is_file():
            console.print(f"[red]{replay}: no such file[/red]; give a recorded market, csv or csv.gz")
            return 2
        variables = replay_variables(Installation.find({}), replay, speed or REPLAY_SPEED, symbol)
    elif speed is not None:
        variables = {"JULIE_JULIE__MARKET_SPEED": str(speed)}
    pid = running_pid(Installation.find().run_dir)
    if pid is not None:
        console.print(f"[yellow]running already (pid {pid})[/yellow]; `julie down` stops it")
        return 1
    installation = Installation.find(variables)
    supervised = Supervised(installation, variables)
    simulator = needs_simulator(installation)
    remember_active(variables)
    supervised.start(simulator=simulator)
    stay = False
    for number in (signal.SIGTERM, signal.SIGHUP):
        # A closed terminal ends it like Ctrl-C: nobody trades unseen.
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        code = asyncio.run(announce(installation, supervised, console, simulator=simulator))
        where_next(installation, supervised, console)
        stay = detach
        if stay:
            return code
        asyncio.run(follow_orders(installation, console, until=lambda: supervised.poll() is not None))
    except KeyboardInterrupt:
        console.print("stopping ...")
    finally:
        if not stay:
            supervised.stop()
    console.print("stopped; everything is stored, `julie up` resumes it")
    return 0


def command() -> str:
    """Return how `julie` is called from here: by its name only in an activated environment."""
    own = Path(sys.executable).with_name("julie")
    if shutil.which("julie") or not own.exists():
        return "julie"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def where_next(installation: Installation, supervised: Supervised, console: Console) -> None:
    """Say where to look now."""
    symbol = installation.julie.symbols[0]
    account = installation.julie.account_id
    julie = command()
    looks = {
        f"{julie} status": "every process, the session, positions, where the bus is",
        f"{julie} tail '{topics.md(symbol)}'": "the market as strategies see it",
        f"{julie} tail '{topics.orders(account)}'": "every step of every order",
    }
    width = max(map(len, looks))
    rows = "\n".join(f"  {line:<{width}}   {what}" for line, what in looks.items())
    console.print(
        f"""
Trading {", ".join(installation.julie.symbols)} on account {account}. In another terminal:
{rows}
  {julie} halt | resume | flatten | doctor
  {installation.address.cli()} XREVRANGE '{topics.orders(account)}' + - COUNT 5
  logs: {supervised.log_dir}
Ctrl-C or `{julie} down` stops everything; the next `{julie} up` resumes.
""",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def down(console: Console) -> int:
    """Stop the installation. Returns the exit code."""
    try:
        installation = Installation.find()
    except SettingsRefused as refused:
        console.print(str(refused))
        return 2
    pid = running_pid(run_dir(installation.julie.data_dir))
    if pid is None:
        console.print("nothing is running here")
        return 0
    stop_pid(pid)
    console.print("stopped")
    return 0
