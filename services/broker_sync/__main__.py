"""`python -m services.broker_sync`: the broker's truth about one account, on the bus."""

from __future__ import annotations

from services.broker_sync.config import BrokerSyncSection
from services.broker_sync.shell import Shell
from shared.runtime.broker import account_port
from shared.runtime.service import Context, serve
from shared.runtime.session import SessionWatch


async def run(ctx: Context[BrokerSyncSection]) -> None:
    watch = SessionWatch(ctx.bus, ctx.clock)
    async with watch.followed(), account_port(ctx, watch, blind=lambda: shell.is_blind) as port:
        shell = Shell(ctx, port, watch)
        await shell.run()


if __name__ == "__main__":
    serve("broker_sync", BrokerSyncSection, run)
