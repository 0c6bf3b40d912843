"""`julie halt`, `resume`, `flatten`: the operator's word on `control:operator`, with the effect shown."""

from __future__ import annotations

import getpass
import time

from rich.console import Console
from rich.markup import escape

from julie.installation import Installation
from shared.bus.port import BusAway, BusRefused, Fenced
from shared.domain.control import Control, Flatten, Halt, HaltKind, Resume
from shared.runtime.config import halt_flag
from shared.wire import topics

EFFECT_TIMEOUT_S = 10.0
FENCED_TRIES = 3
"""Two operators at once fence each other for one append; the loser simply opens the stream again."""


def halt(reason: str) -> Halt:
    return Halt(kind=HaltKind.OPERATOR, reason=reason, issuer=issuer(), ts_ns=time.time_ns())


def resume(reason: str, strategy_id: str | None = None) -> Resume:
    return Resume(
        kind=HaltKind.OPERATOR,
        reason=reason,
        issuer=issuer(),
        ts_ns=time.time_ns(),
        strategy_id=strategy_id,
    )


def flatten(symbol: str | None, reason: str) -> Flatten:
    return Flatten(symbol=symbol, reason=reason, issuer=issuer(), ts_ns=time.time_ns())


def issuer() -> str:
    return f"julie:{getpass.getuser()}"


def pull_flag(installation: Installation, why: str, console: Console) -> bool:
    """Leave the file that execution halts on without a bus; return whether that worked."""
    path = halt_flag(installation.julie.data_dir)
    try:
        path.write_text(f"{why} ({issuer()})\n", encoding="utf-8")
    except OSError as error:
        console.print(f"[red]{escape(str(path))}: {escape(str(error.strerror))}[/red]")
        return False
    console.print(f"{escape(str(path))} is written: execution of this machine halts on it within a second")
    return True


def drop_flag(installation: Installation, console: Console) -> None:
    """Remove the file: as long as it is there no resume lasts."""
    path = halt_flag(installation.julie.data_dir)
    if path.exists():
        path.unlink()
        console.print(f"{escape(str(path))} is removed")


async def send(installation: Installation, command: Control, console: Console) -> int:
    """Append the command and show what execution makes of it. Returns the exit code."""
    if isinstance(command, Resume) and command.strategy_id is None:
        drop_flag(installation, console)
    bus = installation.bus()
    orders = topics.orders(installation.julie.account_id)
    try:
        await bus.ready()
        reader = bus.reader()
        newest = await bus.last(orders)
        reader.follow(orders, newest[-1].id.decode() if newest else "0-0")
        for attempt in range(FENCED_TRIES):
            try:
                writer = await bus.open(topics.CONTROL_OPERATOR)
                writer.append(command)
                await writer.flush()
                break
            except Fenced:
                if attempt == FENCED_TRIES - 1:
                    raise
        console.print(f"{type(command).__name__.lower()} is on the bus; waiting for execution ...")
        deadline = time.monotonic() + EFFECT_TIMEOUT_S
        while time.monotonic() < deadline:
            for entry in await reader.read(block_ms=200, count=100):
                if entry.kind == b"trading_state":
                    text = entry.value.decode()
                    console.print(f"execution: {escape(text)}", highlight=False, soft_wrap=True)
                    return 0
        console.print(
            "[yellow]no change of the trading state within 10 s[/yellow]: it may hold already, "
            "or execution may be away; see `julie status`"
        )
        return 0 if await _execution_beats(installation) else 1
    except (BusAway, BusRefused) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        if isinstance(command, Halt | Flatten):
            pull_flag(installation, f"{type(command).__name__.lower()}: {command.reason}", console)
        return 1
    finally:
        await bus.close()


async def _execution_beats(installation: Installation) -> bool:
    from julie.status import collect

    found = await collect(installation)
    return any(p["process"] == "execution" and p["beat_age_s"] < 3 for p in found["processes"])
