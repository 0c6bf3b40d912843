"""`python -m services.guard`: the prop firm's rules of one account, kept whatever else fails."""

from __future__ import annotations

from services.guard.config import GuardConfig
from services.guard.shell import Shell
from services.guard.store import RecordFile
from shared.runtime.broker import guard_ports
from shared.runtime.service import Context, serve
from shared.runtime.session import SessionWatch


async def run(ctx: Context[GuardConfig]) -> None:
    ctx.config.account(ctx.julie.account_id)  # settings that name no rules are refused before anything else
    file = RecordFile(ctx.julie.data_dir / f"guard-{ctx.julie.account_id}.json")
    watch = SessionWatch(ctx.bus, ctx.clock)
    async with watch.followed(), guard_ports(ctx, watch) as (orders, account, market):
        await Shell(ctx, orders=orders, account=account, market=market, watch=watch, file=file).run()


if __name__ == "__main__":
    serve("guard", GuardConfig, run)
