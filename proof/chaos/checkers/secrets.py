"""I-27: secrets stay where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from proof.chaos.checkers.evidence import Evidence
from proof.record import Record


def check(evidence: Evidence, record: Record, commands: list[bytes]) -> None:
    """Args:
    commands: Command lines of all processes while they ran.
    """
    world = evidence.world
    secrets = {name: value.encode() for name, value in world.installation.secrets.items()}
    for n, token in enumerate(sorted(world.watch.tokens)):
        secrets[f"token {n}"] = token
    for name, value in secrets.items():
        for place, data in _places(evidence, commands):
            record.check("I-27", value not in data, f"secret {name} stands in {place}")
    for path in sorted(world.installation.redis_folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            for name in world.installation.secrets:
                # A session token is kept in Redis by design, under one key.
                record.check("I-27", secrets[name] not in data, f"secret {name} stands in {path.name}")


def _places(evidence: Evidence, commands: list[bytes]) -> Iterator[tuple[str, bytes]]:
    folder: Path = evidence.world.installation.logs
    for path in sorted(folder.glob("*.log")):
        yield path.name, path.read_bytes()
    for key, entries in evidence.final.items():
        yield key, b"\n".join(one.value for one in entries)
    yield "command lines", b"\n".join(commands)
    yield "the timeline", evidence.world.installation.timeline.read_bytes()
