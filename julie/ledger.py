"""`julie ledger verify`: look the ledger over, and say what was found and what to do."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from julie.installation import Installation
from services.execution.audit import Audit, audit
from services.execution.ledger import ledger_path
from shared.bus.port import BusAway, BusRefused
from shared.wire import topics

REMEDY = """Do: `julie halt`, and keep a copy of the file as it is. The truth is in the broker's platform.
If a disk or a copy is to blame, stop execution, put back a backup or move the file away, and start again:
execution then halts until you have compared and given `julie resume`."""


async def verify(installation: Installation, console: Console, *, file: Path | None = None) -> int:
    """Print rows looked at, or the first bad one. Returns 1 when something is wrong."""
    account_id = installation.julie.account_id
    path = file or ledger_path(installation.julie.data_dir, account_id)
    if not path.exists():
        console.print(f"there is no ledger {path}; execution makes it at its first start", soft_wrap=True)
        return 1
    # Asked first: steps come to the bus after the ledger, so what it has then the file must have.
    head = await _head(installation) if file is None else None
    done = audit(path)
    counts = ", ".join(f"{count} {table}" for table, count in done.rows.items())
    console.print(f"{path}: {counts}", highlight=False, soft_wrap=True)
    bad = done.bad or _shorter(done, head, topics.orders(account_id))
    if bad is not None:
        console.print(f"[red]bad[/red]   {escape(bad)}", highlight=False, soft_wrap=True)
        console.print(REMEDY, highlight=False, soft_wrap=True)
        return 1
    console.print(
        f"[green]sound[/green] up to step {done.last_step}; its chain ends with {done.head}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if done.chained_from_step:
        console.print(
            f"Steps up to {done.chained_from_step} are older than the chain: what was changed in them "
            "before the upgrade cannot be seen.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if head is None:
        console.print(
            "Not compared with the bus: an end that was cut off, or an older copy, looks sound from inside.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    return 0


def _shorter(done: Audit, head: int | None, stream: str) -> str | None:
    if head is None or head <= done.last_step:
        return None
    ends = f"it ends with step {done.last_step}, {stream} with {head}"
    return f"{ends}: its end was cut off, or it is an older copy"


async def _head(installation: Installation) -> int | None:
    """Return the number of the newest entry of the orders stream; None when the bus does not say."""
    bus = installation.bus()
    stream = topics.orders(installation.julie.account_id)
    try:
        return (await bus.heads([stream]))[stream]
    except (BusAway, BusRefused):
        return None
    finally:
        await bus.close()
