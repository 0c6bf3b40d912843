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
from services.strategy.zygote import Zygote
from shared.runtime.service import Context, serve


async def run(ctx: Context[StrategySection], zygote: Zygote) -> None:
    await Shell(ctx, ProcessSpawn(zygote, ctx.config.nice)).run()


def process_name() -> str:
    name = os.environ.get("JULIE_PROCESS") or socket.gethostname()
    return name if name.startswith(HOST_PREFIX) else HOST_PREFIX + name


if __name__ == "__main__":
    zygote = Zygote.fork()  # before there is a loop or a thread
    serve("strategy", StrategySection, lambda ctx: run(ctx, zygote), process=process_name())
