"""The recorder: what it deletes from Redis lies in its archive, and there once and as it was.

I-12 (nothing is lost on the way from Redis to the archive), I-13 (each entry is archived once), I-14 (nothing
is told to be missing that is not) and I-15 (what is deleted is archived). What is deleted it hears from the
server, what is archived it sees in the files; what the recorder believes is not asked.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from proof.simulation.bus.streams import Stream
from proof.simulation.checkers.checker import Checker
from services.recorder.files import EntryId, Rows
from shared.wire import topics

if TYPE_CHECKING:
    from proof.simulation.judge import Judge


ARCHIVED_S = 8.0
"""What stood in Redis so long ago is archived, when nothing hinders."""


class Archive(Checker):
    """See the module."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.on = judge.world.plan.recorder.on
        self._stood: deque[tuple[float, dict[str, EntryId]]] = deque()

    # -- as it happens ------------------------------------------------------------------

    def trimmed(self, key: bytes, rows: list[Any]) -> None:
        """Look at what is about to be deleted from a stream."""
        if not self.on:
            return
        stream, archived = key.decode(), self._archived(key.decode())
        self.reach(f"trimmed: {stream.partition(':')[0]}")
        for word, fields in rows:
            same = tuple(fields) in archived.get(_id(word), ())
            self.check("I-15", same, lambda w=word: f"{stream} {w} is deleted, and not archived")  # type: ignore[misc]

    def stored(self, stream: str, rows: Rows, aside: bool) -> None:
        """Look at what is about to become a file."""
        where = "set aside" if aside else "archived"
        self.reach(f"{where}: {stream.partition(':')[0]}")
        if aside:
            return
        known = {entry_id for entry_id, _ in self.world.archive.entries(stream)}
        again = known.intersection(rows.ids)
        self.check("I-13", not again, lambda: f"{stream}: {sorted(again)} are archived once more")
        rises = all(a < b for a, b in zip(rows.ids, rows.ids[1:], strict=False))
        behind = not known or max(known) < rows.ids[0]
        self.check("I-13", rises and behind, lambda: f"{stream}: {rows.ids} do not go on the archive")

    def removed(self, stream: str, rows: Rows) -> None:
        """Look at what is gone with a file: it lies in another one."""
        self.reach("merged files")
        archived = self._archived(stream)
        lost = [entry_id for entry_id in rows.ids if entry_id not in archived]
        self.check("I-15", not lost, lambda: f"{stream}: {lost} are gone with their file")

    def _archived(self, stream: str) -> dict[EntryId, set[tuple[bytes, bytes]]]:
        found: dict[EntryId, set[tuple[bytes, bytes]]] = {}
        archive = self.world.archive
        for entry_id, content in (*archive.entries(stream), *archive.set_aside(stream)):
            found.setdefault(entry_id, set()).add(content)
        return found

    # -- at rest --------------------------------------------------------------------------

    def goes_up_to(self, stream: str, seq: int) -> bool:
        """Say whether the archive has what comes before an entry of this number."""
        return self.on and any(one[1] == seq - 1 for one, _ in self.world.archive.entries(stream))

    def unsettled(self) -> str:
        """Return what the recorder has not archived yet, after the faults; empty when it has all."""
        if not self.on:
            return ""
        now_s, streams = self.world.loop.now_s, self._streams()
        self._stood.append((now_s, {name: stream.last for name, stream in streams}))
        if now_s - self._stood[0][0] < ARCHIVED_S:
            return "the recorder was not looked at for long"
        while len(self._stood) > 1 and now_s - self._stood[1][0] >= ARCHIVED_S:
            self._stood.popleft()
        stood = self._stood[0][1]
        for name, stream in streams:
            archived = self._archived(name)
            for entry_id in stream.ids:
                if entry_id not in archived and entry_id <= stood.get(name, (0, 0)):
                    return f"{name} {entry_id} is not archived"
        return ""

    def at_rest(self) -> None:
        """Look at each stream from its beginning on, the archived part and what is still to come."""
        if not self.on:
            return
        archive = self.world.archive
        for name, stream in self._streams():
            archived = self._archived(name)
            for entry_id, row in zip(stream.ids, stream.rows, strict=True):
                if entry_id in archived:
                    fields: Any = row[1]
                    same = tuple(fields) in archived[entry_id]
                    self.check("I-13", same, lambda n=name, e=entry_id: f"{n} {e} differs from its archive")  # type: ignore[misc]
            if self.judge.data_lost:
                continue
            seqs = sorted({one[1] for one in archived} | {one[1] for one in stream.ids})
            whole = seqs == list(range(1, stream.last[1] + 1))
            self.check("I-12", whole, lambda n=name, q=seqs: f"of {n} archive and Redis have {q}")  # type: ignore[misc]
        told = self.judge.data_lost or not archive.holes
        self.check("I-14", told, lambda: f"nothing was lost, and told is {archive.holes}")

    def _streams(self) -> list[tuple[str, Stream]]:
        found = []
        for key, value in self.world.redis.server.store.keys.items():
            topic = topics.topic_of(key.decode())
            if isinstance(value, Stream) and topic is not None and topic.kind is topics.Kind.STREAM:
                found.append((key.decode(), value))
        return found


def _id(word: bytes) -> EntryId:
    ms, _, seq = word.partition(b"-")
    return int(ms), int(seq)
