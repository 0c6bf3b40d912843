"""The command line. `julie --help` lists the commands; each one's own help has the details."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from julie.installation import Installation, read_settings
from shared.runtime.config import BrokerSection, JulieSection, SettingsRefused

app = App(
    name="julie", help="A futures trading system of separate processes that talk over Redis.", version="0.1.0"
)
console = Console()

ledger = App(name="ledger", help="The ledger: what execution has decided, chained step by step.")
app.command(ledger)


@app.command
def up(
    *,
    replay: Annotated[
        Path | None, Parameter(help="A recorded market (csv or csv.gz) instead of the synthetic one.")
    ] = None,
    speed: Annotated[float | None, Parameter(help="Market seconds per second.")] = None,
    symbol: Annotated[str, Parameter(help="The symbol that the recorded market is of.")] = "ES",
    detach: Annotated[
        bool, Parameter(help="Return when everything is ready; `julie down` stops it.")
    ] = False,
) -> int:
    """Start every process around an embedded Valkey, with the simulator as the default broker."""
    from julie.up import up as start

    return start(replay=replay, speed=speed, symbol=symbol, detach=detach, console=console)


@app.command
def down() -> int:
    """Stop what `julie up` started, cleanly and in order."""
    from julie.up import down as stop

    return stop(console)


@app.command
def status(*, json: Annotated[bool, Parameter(help="For machines.")] = False) -> int:
    """Show every process, the session, trading state, positions, and where the bus is.

    The exit code is 1 when a process is not alive or the session is not active.
    """
    from julie.status import status as show

    return asyncio.run(show(Installation.find(), console, as_json=json))


@app.command
def tail(
    key: str,
    *,
    count: Annotated[int | None, Parameter(help="Stop after this many lines.")] = None,
    last: Annotated[int, Parameter(help="Begin with this many entries of the past.")] = 10,
    kind: Annotated[str | None, Parameter(help="Only this type of message, such as bar.")] = None,
) -> int:
    """Follow a stream, one readable line per entry: julie tail 'md:{MES}' --kind bar."""
    from julie.tail import tail as follow

    return asyncio.run(follow(Installation.find(), key, console, count=count, last=last, kind=kind))


@app.command
def halt(*, reason: str = "by hand") -> int:
    """Stop every new order at once; cancels and flatten stay possible. Stays until `julie resume`.

    When the bus is away, a file in the data folder says it: execution looks at it without the bus.
    """
    from julie import control

    return asyncio.run(control.send(Installation.find(), control.halt(reason), console))


@app.command
def resume(
    *,
    reason: str = "by hand",
    strategy: Annotated[
        str | None, Parameter(help="Arm this strategy again, which was latched off; halts stay.")
    ] = None,
) -> int:
    """Lift every halt, also one for a broken invariant. Look at `julie status` first."""
    from julie import control

    return asyncio.run(control.send(Installation.find(), control.resume(reason, strategy), console))


@app.command
def flatten(*, symbol: str | None = None, reason: str = "by hand") -> int:
    """Cancel every working order and close every position (of one symbol, or of the account), and halt."""
    from julie import control

    return asyncio.run(control.send(Installation.find(), control.flatten(symbol, reason), console))


@app.command
def panic(
    *,
    yes: Annotated[bool, Parameter(help="Do not ask.")] = False,
    timeout: Annotated[float, Parameter(help="Seconds until it calls for a person.")] = 30.0,
    all_accounts: Annotated[
        bool, Parameter(help="Every account of the credentials, not only julie.account_id.")
    ] = False,
    reason: str = "by hand",
) -> int:
    """Cancel every order and close every position with the broker's credentials alone.

    Needs neither Redis nor any process of Julie. Looks again until nothing is left; halts execution by the
    file `halt` in the data folder. The exit code is 0 only when the account was seen flat.
    """
    from julie.panic import panic as get_out
    from shared.runtime.clock import SystemClock

    settings = read_settings()
    julie, broker = settings.section("julie", JulieSection), settings.section("broker", BrokerSection)
    accounts = "every account" if all_accounts else f"account {julie.account_id}"
    if not yes and not confirmed(
        f"Cancel all orders and close all positions of {accounts} at {broker.rest_url}?"
    ):
        return 2
    return asyncio.run(
        get_out(
            broker,
            None if all_accounts else [julie.account_id],
            data_dir=julie.data_dir, clock=SystemClock(), console=console, timeout_s=timeout, reason=reason,
        )
    )  # fmt: skip


def confirmed(question: str) -> bool:
    """Ask a person; without one at the terminal the answer is no."""
    if not sys.stdin.isatty():
        print(f"{question} There is nobody to ask: say --yes.", file=sys.stderr)
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


@app.command
def why(order: str, *, json: Annotated[bool, Parameter(help="For machines.")] = False) -> int:
    """Show how an order came about: the input, the intent, the decision with its numbers, every step since.

    ORDER is our id of it (denied and expired ones too), or the broker's number.
    """
    from julie.why import why as explain

    return asyncio.run(explain(Installation.find(), console, order, as_json=json))


@ledger.command(name="verify")
def ledger_verify(
    *,
    file: Annotated[
        Path | None, Parameter(help="Another file, such as a backup; not compared with the bus.")
    ] = None,
) -> int:
    """Look whether a byte of the ledger was changed, or a row removed. Reads only; execution may run.

    The exit code is 1 when something is wrong; the first bad row is named.
    """
    from julie.ledger import verify

    return asyncio.run(verify(Installation.find(), console, file=file))


@app.command
def doctor() -> int:
    """Check settings, credentials, clock, bus and broker, and say what to do."""
    from julie.doctor import doctor as examine

    return asyncio.run(examine(console))


@app.command
def health(process: str) -> int:
    """Judge one process of this machine by its progress; `python -m julie.health` does the same, quicker."""
    from julie.health import address, check

    well, text = check(process, address())
    print(text)
    return 0 if well else 1


def main() -> None:
    """Run one command; wrong settings are told whole, without a traceback."""
    try:
        code: object = app(result_action="return_value")
    except SettingsRefused as refused:
        print(refused, file=sys.stderr)
        code = 78
    except KeyboardInterrupt:
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
