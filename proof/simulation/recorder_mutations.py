"""Planted bugs of the recorder; see `planting`."""

from __future__ import annotations

from unittest.mock import patch

from proof.simulation.planting import Patches, bug
from services.recorder import core
from services.recorder.core import StreamState
from services.recorder.events import Event, Failed, Write, Written
from services.recorder.files import EntryId
from services.recorder.shell import Shell


@bug(caught_in=49)
def trimmed_by_age_alone() -> Patches:
    """What is old enough is surely archived by now."""
    may = core.may_trim_before

    def old(s: StreamState, now_ns: int) -> EntryId | None:
        if s.policy is None or s.policy.keep_entries is not None:
            return may(s, now_ns)
        return now_ns // core.NS_PER_MS - round(s.policy.keep_s * 1000), 0

    async def stands(self: Shell, stream: str, entry_id: EntryId, *, aside: bool = False) -> bool:
        return True

    return [patch.object(core, "may_trim_before", old), patch.object(Shell, "_stands", stands)]


@bug(caught_in=209)
def failed_write_taken_for_written() -> Patches:
    """The disk was full, and the cursor moved on."""
    write = Shell._write

    async def well(self: Shell, command: Write) -> list[Event]:
        outcomes = await write(self, command)
        if any(isinstance(one, Failed) for one in outcomes):
            return [Written(stream=command.stream, file=part.file) for part in command.parts]
        return outcomes

    return [patch.object(Shell, "_write", well)]


@bug(caught_in=219)
def stream_that_began_anew_taken_for_the_old_one() -> Patches:
    """Redis was emptied and the clock set back: nobody looks whether the archive's end still stands there."""

    async def stands(self: Shell, stream: str, entry_id: EntryId, *, aside: bool = False) -> bool:
        return True

    return [patch.object(Shell, "_stands", stands)]


@bug(caught_in=140)
def end_of_the_archive_known_by_its_id_alone() -> Patches:
    """Another entry stands there under the same id: Redis lost the old one, and the clock was set back."""

    async def unknown(self: Shell, stream: str, entry_id: EntryId, aside: bool) -> bytes | None:
        return None

    return [patch.object(Shell, "_payload", unknown)]
