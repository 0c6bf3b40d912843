"""The kill switch that needs no bus: a file named `halt` in the data folder, or SIGUSR1 to the process.

Trading is halted as long as the file is there, and until a person resumes: `julie resume` removes it first.
"""

from __future__ import annotations

from pathlib import Path

SHOWN_CHARS = 200


class KillSwitch:
    """Looked at with every tick; it can only halt."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signaled = False

    def pull(self) -> None:
        """Halt at the next look; called by the signal."""
        self._signaled = True

    def pulled(self) -> str | None:
        """Return why trading must halt, None when nobody has pulled."""
        if self._signaled:
            self._signaled = False
            return "SIGUSR1"
        try:
            words = self._path.read_bytes()[:SHOWN_CHARS].decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            words = f"cannot be read: {error.strerror}"
        return f"the file {self._path}: {words}" if words else f"the file {self._path}"
