"""`python -m services.heartbeat`: the owner of the broker session, and the judge of every process."""

from __future__ import annotations

from services.heartbeat.config import HeartbeatSection
from services.heartbeat.shell import Shell
from shared.runtime.broker import session_port
from shared.runtime.service import Context, serve


async def run(ctx: Context[HeartbeatSection]) -> None:
    await Shell(ctx, lambda: session_port(ctx)).run()


if __name__ == "__main__":
    serve("heartbeat", HeartbeatSection, run)
