"""The embedded Valkey: `python -m julie.bus_server FOLDER SOCKET` becomes the server.

Appends to its file always, so that a restart resumes; no TCP port, no save points, no eviction: a full bus
refuses writes, which everybody notices, and forgets nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from shared.runtime.embedded import server_binary


def server_options(folder: Path, socket: Path) -> list[str]:
    """Return the server's command line options.

    `everysec`: the order path does not rest on Redis; execution's ledger is synced before every order.
    """
    return [
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--dir", str(folder)),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--no-appendfsync-on-rewrite", "no"),
        *("--save", "", "--maxmemory-policy", "noeviction", "--aof-load-truncated", "yes"),
        *("--latency-tracking", "no", "--protected-mode", "yes"),
    ]


def main() -> None:
    """Replace this process by the server, so that the supervisor's signals reach it."""
    folder, socket = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    socket.parent.mkdir(parents=True, exist_ok=True)
    binary = server_binary()
    os.execv(binary, [binary, *server_options(folder, socket)])


if __name__ == "__main__":
    main()
