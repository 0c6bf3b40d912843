"""What supervisor knows of the programs it runs: which have stopped for good, and what they said last."""

from __future__ import annotations

import xmlrpc.client
from pathlib import Path
from typing import NamedTuple

from supervisor.states import ProcessStates
from supervisor.xmlrpc import SupervisorTransport

SAID_BYTES_MAX = 8_192
SAID_LINES_MAX = 12


class Stopped(NamedTuple):
    """A program that supervisor does not start again. Attributes: code: its exit code."""

    name: str
    code: int
    said: str


def stopped_programs(run_dir: Path, log_dir: Path) -> list[Stopped]:
    """Return the programs that have ended for good; none while supervisor does not answer."""
    transport = SupervisorTransport(None, None, f"unix://{run_dir / 'supervisor.sock'}")
    proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
    try:
        found = proxy.supervisor.getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return []
    finally:
        transport.close()
    assert isinstance(found, list)
    return [
        Stopped(row["name"], row["exitstatus"], last_words(log_dir / f"{row['name']}.log"))
        for row in found
        if row["state"] in (ProcessStates.EXITED, ProcessStates.FATAL)
    ]


def last_words(log: Path) -> str:
    """Return the end of a log: what was printed last, without what an earlier life logged."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - SAID_BYTES_MAX))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = lines[-SAID_LINES_MAX:]
    for at in range(len(said) - 1, -1, -1):
        # Refused settings come before there are logs: a headline, and a list below it.
        if "problem(s) in the settings" in said[at]:
            return "\n".join(said[at:])
    return "\n".join(said[-1:])
