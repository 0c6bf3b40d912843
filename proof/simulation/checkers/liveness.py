"""What heartbeat says of the others, held against whether they run: lost ones halt, and stay halted (I-20).

Only time in which heartbeat could act is counted against it: it runs, and Redis takes what it says. That it
does not run is counted against execution, which must stop by itself then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proof.simulation.bus.streams import Stream
from proof.simulation.checkers.checker import Checker
from proof.simulation.scaled import LIVELY_BEATS_S, RESUME_AFTER_S, VITAL
from shared.domain.control import Halt, Resume
from shared.wire import topics
from shared.wire.codec import decode

if TYPE_CHECKING:
    from proof.simulation.judge import Judge

SILENT_S = 3.0
"""Without any sign of life for so long, a process is noticed to be gone."""
HALTED_WITHIN_S = 5.0
"""New exposure stops so soon, whatever it is that a process does not do."""
MARGIN_S = 1.0
"""A beat, a turn of the judge, the halt's way to execution, and a look of ours."""
BUS_LOST_S = 3.0
"""What a bus that loses requests and replies may cost: a subscription, or a write, is made again."""
STARTS_S = 1.0
UNSEEN_S = 1.5 + LIVELY_BEATS_S + 0.5
"""Nobody can see a process that is away for less than this: silence is looked at after 1.5 s."""
CONTROL = topics.CONTROL_HEARTBEAT.encode()


@dataclass(slots=True)
class Seen:
    """One process that trading needs.

    Attributes:
        lost_s: For how long it has not done its job, of the time in which heartbeat could act.
        silent_s: The same, of a process of which there is no sign of life.
        away_s: For how long it has not done its job, whoever could act.
        well_s: For how long it has done its job since it was last away for so long that it shows.
        beats: How many lives have done their job, and how many beats these have sent.
        excused: A person has said that trading goes on while it is lost.
    """

    lost_s: float = 0.0
    silent_s: float = 0.0
    away_s: float = 0.0
    well_s: float = 0.0
    beats: int = 0
    excused: bool = False


class Liveness(Checker):
    """See the module.

    Attributes:
        halted: The last word of heartbeat is a halt.
        deaf_s: For how long heartbeat has not been running.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.on = judge.world.plan.session.on
        self.seen = {name: Seen() for name in VITAL}
        self.halted = True
        self.deaf_s = 0.0
        self._spoken = 0
        self._able_s = 0.0
        self._read = 0
        self._resumed_ns = 0

    # -- truth ------------------------------------------------------------------------

    def _has_stand_in(self, name: str) -> bool:
        return name == "feed" and not self.world.plan.feed.on

    def runs(self, name: str) -> bool:
        """Return whether there is any sign of life of a process."""
        if self._has_stand_in(name):
            return not self.world.surroundings.feed_stopped
        return any(not one.held for one in self.world.machine.processes[name].incarnations)

    def well(self, name: str) -> bool:
        """Return whether a process does its job, be it the older of two."""
        if self._has_stand_in(name):
            return self.runs(name)
        lives = self.world.machine.processes[name].incarnations
        return any(not one.held and one.beat is not None and one.beat.ready for one in lives)

    def _was_well(self, name: str, seen: Seen) -> bool:
        """Return whether a life has done its job since the last look, be it for a moment."""
        if self._has_stand_in(name):
            return False
        boards = (one.beat for one in self.world.machine.processes[name].incarnations)
        beats = sum(1 + board._seq for board in boards if board is not None and board.ready)
        grew, seen.beats = beats > seen.beats, beats
        return grew

    def redis_takes(self) -> bool:
        server = self.world.redis.server
        return server.up and not (server.frozen or server.disk_full or server.out_of_memory)

    def able(self) -> bool:
        """Return whether heartbeat could do what it promises, and has had a moment to begin."""
        return self._able_s >= STARTS_S

    @property
    def margin_s(self) -> float:
        plan = self.world.plan
        # Who waits for a lost reply as the faults end waits on for a while.
        loses = plan.bus_lost and self.world.loop.now_s < plan.faults_s + BUS_LOST_S
        return MARGIN_S + (BUS_LOST_S if loses else 0.0)

    # -- time -------------------------------------------------------------------------

    def tick(self, every_s: float) -> None:
        """Look at who runs; what is not well must be noticed in time."""
        if not self.on:
            return
        runs, takes = self.runs("heartbeat"), self.redis_takes()
        spoken = self._spoken
        boards = (one.beat for one in self.world.machine.processes["heartbeat"].incarnations)
        self._spoken = sum(board._seq for board in boards if board is not None)
        self.deaf_s = 0.0 if runs or self._spoken > spoken else self.deaf_s + every_s
        self._able_s = self._able_s + every_s if runs and takes else 0.0
        able = self.able()
        for name, seen in self.seen.items():
            was_well = self._was_well(name, seen)
            if was_well or self.well(name):
                if seen.away_s >= UNSEEN_S:
                    seen.well_s = 0.0
                elif seen.well_s:
                    seen.well_s += seen.away_s
                seen.lost_s = seen.silent_s = seen.away_s = 0.0
                seen.excused = False
                seen.well_s += every_s
                continue
            seen.away_s += every_s
            seen.lost_s += every_s if able else 0.0
            if self.runs(name):
                seen.silent_s = 0.0
            else:
                seen.silent_s += every_s if able else 0.0
            self._noticed(name, seen)

    def _noticed(self, name: str, seen: Seen) -> None:
        lost_s, silent_s = seen.lost_s, seen.silent_s
        if silent_s > SILENT_S + self.margin_s:
            self.reach(f"{name} silent for too long")
            self.check("I-20", self.halted, lambda: f"{name} is silent for {silent_s:.2f} s, and no halt")
        if lost_s > HALTED_WITHIN_S + self.margin_s - MARGIN_S:
            self.check("I-20", self.halted, lambda: f"{name} is lost for {lost_s:.2f} s, and no halt")

    # -- what is said -----------------------------------------------------------------

    def wrote(self) -> None:
        """Look at what heartbeat has written to its control stream since the last look."""
        stream = self.world.stream(CONTROL)
        if not isinstance(stream, Stream):
            return
        rows = stream.rows[self._read - stream.added :] if stream.added > self._read else []
        self._read = stream.added
        for row in rows:
            fields: Any = row[1]
            message = decode(*fields)
            if isinstance(message, Halt):
                self.halted = True
                self.reach("halt by heartbeat")
            elif isinstance(message, Resume):
                self.halted = False
                if message.ts_ns == self._resumed_ns:  # into a Redis that had lost it
                    self.reach("resume said again")
                self._resumed_ns = message.ts_ns

    def redis_back(self) -> None:
        """Redis has started again: what lies there by now was looked at before."""
        stream = self.world.stream(CONTROL)
        self._read = stream.added if isinstance(stream, Stream) else 0

    def resumed(self) -> None:
        """A halt is lifted when everybody has been well for a while, not at the first word.

        Looked at when heartbeat decides it: Redis may have it much later, if heartbeat was frozen meanwhile.
        """
        if not self.on:
            return
        self.reach("resume by heartbeat")
        for name, seen in self.seen.items():
            self.check(
                "I-20",
                seen.away_s <= UNSEEN_S,
                lambda n=name, s=seen: f"resume while {n} is away for {s.away_s:.2f} s",  # type: ignore[misc]
            )
            # One that was frozen itself cannot know of an absence that was nearly over when it woke.
            if not seen.away_s and self._able_s >= RESUME_AFTER_S + UNSEEN_S:
                self.check(
                    "I-20",
                    seen.well_s >= RESUME_AFTER_S - 0.5,
                    lambda n=name, s=seen: f"resume while {n} is well for {s.well_s:.2f} s",  # type: ignore[misc]
                )

    def overruled(self) -> None:
        """A person lifts the halt of heartbeat as well, whoever is lost."""
        for seen in self.seen.values():
            seen.excused = seen.lost_s > 0.0

    def exposed(self, what: str) -> None:
        """New exposure leaves for the broker."""
        if not self.on:
            return
        for name, seen in self.seen.items():
            bound_s = HALTED_WITHIN_S + self.margin_s - MARGIN_S + 0.25
            self.check(
                "I-20",
                seen.lost_s <= bound_s or seen.excused,
                lambda n=name, s=seen: f"{what} is sent, {n} is lost for {s.lost_s:.2f} s",  # type: ignore[misc]
            )
        bound_s = HALTED_WITHIN_S + LIVELY_BEATS_S + 0.25
        deaf_s = 0.0 if self.runs("heartbeat") else self.deaf_s  # it may have come back since the last look
        self.check(
            "I-20", deaf_s <= bound_s, lambda: f"{what} is sent, heartbeat does not run for {deaf_s:.2f} s"
        )
