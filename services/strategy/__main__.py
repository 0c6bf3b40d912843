"""`python -m services.strategy`: a host for strategy instances. Run as many as you like, on any machines.

The process is named `strategy@<host name>`, or as `JULIE_PROCESS` says; names must differ between hosts,
since leases are held under them. Each instance shows in `julie status` as `strategy:<its id>`.
"""

from __future__ import annotations

import os
import socket

from services.strategy.config import StrategySection
from services.strategy.shell import HOST_PREFIX, Shell
from services.strategy.spawn import ProcessSpawn
from shared.runtime.service import Context, serve


async def run(ctx: Context[StrategySection]) -> None:
    await Shell(ctx, ProcessSpawn(ctx.config.nice)).run()


def process_name() -> str:
    name = os.environ.get("JULIE_PROCESS") or socket.gethostname()
    return name if name.startswith(HOST_PREFIX) else HOST_PREFIX + name


if __name__ == "__main__":
    serve("strategy", StrategySection, run, process=process_name())
