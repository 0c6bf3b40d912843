"""`python -m services.execution`: the only sender of orders of one account."""

from __future__ import annotations

from services.execution.config import ExecutionConfig
from services.execution.ledger import Commit, Ledger, LedgerFailed, Run, SqliteLedger, ledger_path
from services.execution.records import Standing
from services.execution.shell import Shell
from services.execution.switch import KillSwitch
from shared.bus.port import RolledBack
from shared.domain.control import HaltKind
from shared.runtime.broker import order_ports
from shared.runtime.build import BUILD
from shared.runtime.config import halt_flag
from shared.runtime.service import Context, hear_halt_signal, serve
from shared.runtime.session import SessionWatch

LEDGER_RETRY_S = 1.0


async def open_ledger(ctx: Context[ExecutionConfig]) -> SqliteLedger:
    """Return the ledger; while it cannot be written, say so and send nothing."""
    path = ledger_path(ctx.julie.data_dir, ctx.julie.account_id)
    said = ""
    while True:
        try:
            run = Run(ctx.clock.now_ns(), BUILD, ctx.settings_hash)
            ledger = SqliteLedger(path, account_id=ctx.julie.account_id, run=run)
        except LedgerFailed as error:
            if str(error) != said:
                said = str(error)
                ctx.log.error("ledger_failed", why=said)
            ctx.beat.detail["ledger"] = said[:200]
            await ctx.clock.sleep(LEDGER_RETRY_S)
        else:
            ctx.beat.detail.pop("ledger", None)
            return ledger


def latch(ledger: Ledger, why: str, *, now_ns: int) -> None:
    """Write a halt that the next start finds and a person lifts.

    Raises:
        LedgerFailed: If it is not known to be on disk.
    """
    standing = ledger.load().standing or Standing()
    standing.halts = {**standing.halts, HaltKind.INVARIANT: why}
    ledger.commit(Commit(steps=[], orders={}, fills={}, standing=standing, cursors={}, ts_ns=now_ns))


async def record_failure(ctx: Context[ExecutionConfig], why: str) -> None:
    """Latch a halt as soon as the ledger takes writes; nothing is sent before, or after it.

    What memory knew beyond the ledger is gone with this process: the next start asks the broker.
    """
    ctx.beat.ready = False
    ctx.beat.detail["ledger"] = why[:200]
    while True:
        ledger = await open_ledger(ctx)
        try:
            latch(ledger, why, now_ns=ctx.clock.now_ns())
        except LedgerFailed:
            await ctx.clock.sleep(LEDGER_RETRY_S)
        else:
            return
        finally:
            ledger.close()


async def run(ctx: Context[ExecutionConfig]) -> None:
    switch = KillSwitch(halt_flag(ctx.julie.data_dir))
    hear_halt_signal(switch.pull)
    ledger = await open_ledger(ctx)
    watch = SessionWatch(ctx.bus, ctx.clock)
    try:
        async with watch.followed(), order_ports(ctx, watch) as (orders, account):
            shell = Shell(ctx, orders=orders, account=account, session=watch, ledger=ledger, switch=switch)
            await shell.run()
    except* LedgerFailed as group:
        ledger.close()
        ctx.log.error("ledger_failed", why=str(_first(group)))
        await record_failure(ctx, f"the ledger failed: {_first(group)}")
        raise
    except* RolledBack as group:
        # What was lost may lie above what the ledger knows as acknowledged: the next start could not tell.
        ledger.close()
        await record_failure(ctx, f"Redis has lost entries: {_first(group)}")
        raise
    finally:
        ledger.close()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception that is no group."""
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one


if __name__ == "__main__":
    serve("execution", ExecutionConfig, run)
