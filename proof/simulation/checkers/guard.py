"""Guard by the broker's books: what breaks a rule is closed in time, nothing else is, and the latch stays.

I-26 for what it stops and closes, I-29 for what lifts its latch. What it believes is not asked: only what it
says, writes down and sends is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from proof.simulation.bus.streams import Stream
from proof.simulation.checkers.checker import Checker
from proof.simulation.checkers.guard_books import GuardBooks
from proof.simulation.loop import NS_PER_S
from proof.simulation.machine import Incarnation
from proof.simulation.scaled import GUARD_LOOK_S, PRICE_AGE_S, TRUTH_AGE_S
from proof.simulation.wire import CANCEL, Post
from services.guard.record import Record, Rule
from services.simulator.state import Command
from shared.domain.control import Flatten, Halt, HaltKind, Resume
from shared.wire import topics
from shared.wire.codec import decode

if TYPE_CHECKING:
    from proof.simulation.judge import Judge

CLOSE = "/api/Position/closeContract"
READY_S = 4.0
"""From a start until two looks at the account have agreed."""
NOTICED_S = GUARD_LOOK_S + 3.0
"""One look that does not fit, and the next."""
NOTICED_AT_ONCE_S = 2.0
"""Where nothing hinders it and all that is pushed comes at once: a price, and what it says of the account."""
SEEN_S = 0.5
"""So soon it hears there what was opened."""
FLAT_WITHIN_S = 8.0
HINDERED_S = 6.0
"""More of both where requests, answers or prices are lost: it asks and sends again, after pauses."""
UNANSWERED_S = 24.0
"""More where all questions fail, less as fewer do: two looks of three answers each must agree first."""
AWAY_S = 6.0
"""More where Redis goes away: for three seconds guard believes so, and for three it waits for a place."""
BLIND_FOR_S = 20.0
"""So long after a position went blind its closing may take, with all that is lost of it."""
WRITTEN_S = 1.0
"""Two writes of a slow disk, one after the other."""
CALLED_FLAT_S = 4.0
"""Two looks that showed nothing, and their answers."""
PICTURE_S = TRUTH_AGE_S + PRICE_AGE_S
"""So old may be what guard judges by."""
LATE_S = 2.0
"""What was sent for a reason may leave so long after it has passed, with its place in the request budget."""
BLINDING = frozenset(
    {"queries", "storms", "partitions", "long", "bus", "outages", "silences", "jumps", "stops", "reboots",
     "closed", "set back", "storm over orders", "lag", "kills", "kills again", "claims"}
)  # fmt: skip
"""Kinds of fault that take prices or answers from guard, or others' places in the request budget."""
HINDERING = frozenset({"wire", "late", "connects"})
KNOWN = (
    "Redis is away", "execution is silent", "no sign", "execution gave up", "nothing was",
    "a resume that was heard before", "a resume of", "the broker has not shown", "still broken",
    "the account has moved",
)  # fmt: skip
_record = msgspec.json.Decoder(Record)


class Guard(Checker):
    """See the module.

    Attributes:
        halted_ns: Since when a halt of guard's stands in Redis.
        reason: Of the newest.
        latched_ns: Since when a breach holds, as guard has said or written.
        resumes: Name -> when a person said it, true time.
        last_resume: The newest of a person.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.on = judge.world.plan.guard.on
        self.books = GuardBooks(judge.world)
        self.halted_ns: int | None = None
        self.reason = ""
        self.latched_ns: int | None = None
        self.resumes: dict[str, int] = {}
        self.last_resume: Resume | None = None
        self._spoken = False
        self._seq = 0
        self._unwritten: dict[Incarnation, int] = {}  # life -> when it said a breach that is not on the disk
        self._ended_ns = 0  # when the last latch did
        self._blind_ns: int | None = None
        self._unwritten_s = 0.0
        self._broken_s = 0.0
        self._unflat_s = 0.0
        self._held: int | None = None

    # -- what is told -------------------------------------------------------------

    def happened(self, command: Command) -> None:
        if self.on:
            self.books.happened(command)

    def resumed(self, order: Resume) -> None:
        """A person has said so, and Redis has it."""
        self.last_resume = order
        self.resumes[f"{order.issuer}@{order.ts_ns} {order.kind}"] = self.world.clock.true_ns()

    def wrote(self) -> None:
        """Read what guard has just said to execution."""
        stream = self.world.stream(topics.CONTROL_GUARD.encode())
        if not isinstance(stream, Stream):
            return
        now_ns = self.world.clock.true_ns()
        for (_, seq), row in zip(stream.ids, stream.rows, strict=True):
            if seq <= self._seq:
                continue
            self._seq = seq
            kind, value = cast(list[bytes], row[1])
            match decode(kind, value):
                case Halt(reason=reason):
                    self._spoken, self.reason = True, reason
                    self.halted_ns = now_ns if self.halted_ns is None else self.halted_ns
                    self.reach("guard: halt")
                case Resume():
                    self._spoken, self.halted_ns = True, None
                    self.reach("guard: resume")
                case Flatten(reason=reason, ts_ns=ts_ns):
                    self.reach("guard: flatten")
                    if not self.world.plan.jumps:  # it may have waited for Redis
                        said_ns = now_ns - self.world.clock.now_ns() + ts_ns
                        self._justified(f"guard says flatten: {reason}", said_ns)
                case other:
                    self.check("I-26", False, lambda m=other: f"guard says {m}")  # type: ignore[misc]

    def redis_back(self) -> None:
        """Redis has come back: what it lacks is not said any more, until guard says it again."""
        stream = self.world.stream(topics.CONTROL_GUARD.encode())
        last = stream.last[1] if isinstance(stream, Stream) else 0
        if last < self._seq:
            self._seq, self.halted_ns, self._spoken = last, None, False

    def said(self, words: str) -> None:
        """Take what guard tells execution, when it decides it: where Redis is away that is never written."""
        if words.startswith("blind"):  # closing for another reason until now
            self._blind(words)

    def heard(self, incarnation: Incarnation, event: str, words: str) -> None:
        """Take an alarm of guard's, as it sounds."""
        now_ns = self.world.clock.true_ns()
        match event:
            case "breach":
                self._breach(now_ns, words, incarnation)
            case "record_unreadable":
                self.reach("guard: record lost")
                self._latched(now_ns, incarnation)  # with its first look at the account
            case "closing_by_itself":
                self.reach(f"guard closes by itself: {_kind_of(words)}")
            case "re_arm_refused":
                self.reach(f"guard refuses a resume: {_kind_of(words.partition(': ')[2])}")
            case "flatten" if words.startswith("blind"):
                self._blind(words)
            case _:
                pass

    def _blind(self, words: str) -> None:
        self._blind_ns = self.world.clock.true_ns()
        self.reach("guard: blind with a position")
        self.check("I-26", self._may_be_blind(), lambda: f"no fault, and guard is {words}")

    def _may_be_blind(self) -> bool:
        plan = self.world.plan
        own = (plan.stops, plan.kills, plan.blind, plan.silences, plan.guard.record_fails)
        theirs = (plan.outages, plan.jumps)
        if plan.session.on:
            return True  # its token may be dead, and what a heartbeat asks uses the same budget
        return bool(BLINDING & set(plan.kinds)) or any(own + theirs)

    def _breach(self, at_ns: int, words: str, incarnation: Incarnation) -> None:
        rule = words.partition(":")[0]
        self.reach(f"guard: breach of {rule}")
        self._latched(at_ns, incarnation)
        from_ns = at_ns - round(PICTURE_S * NS_PER_S)
        self.check(
            "I-26",
            self.books.may_be_broken(rule, from_ns),
            lambda: f"a breach that never was: {words}; the books: {self.books.now}",
        )

    def _latched(self, at_ns: int, incarnation: Incarnation) -> None:
        self._unwritten.setdefault(incarnation, at_ns)
        self.latched_ns = at_ns if self.latched_ns is None else self.latched_ns

    # -- the record ---------------------------------------------------------------

    def recorded(self, old: bytes | None, new: bytes, incarnation: Incarnation) -> None:
        """Look at a record before it is on the disk."""
        was, now = None if old is None else _record.decode(old), _record.decode(new)
        before = was.high_balance if was is not None else now.start_balance
        self.check("I-26", now.high_balance >= before, lambda: f"highest balance {before}, then {now}")
        self.check("I-26", was is None or now.day >= was.day, lambda: f"back from {was} to {now}")
        if now.latch is not None:
            self._unwritten.clear()
        if was is not None and now.day != was.day:
            self.reach("guard: the day turned")
            # One that is begun because the old one cannot be read goes by a search that may lag, and latches.
            anew = now.latch is not None and now.latch.rule is Rule.RECORD
            exact = anew or now.eod_balance == self.books.eod_balance
            self.check("I-26", exact, lambda: f"end of day {now}, by the books {self.books.eod_balance}")
        if now.latch is not None:
            self.latched_ns = self.latched_ns or self.world.clock.true_ns()
            if now.latch.rule is Rule.RECORD:
                lost = self.world.guard_disk.lost
                self.check("I-26", lost, lambda: f"the record was there, and guard says {now.latch}")
            if now.latch.ts_flat_ns and (was is None or was.latch is None or not was.latch.ts_flat_ns):
                self.reach("guard: flat after a breach")
        elif was is not None and was.latch is not None:
            self._lifted(was, now)
        elif incarnation in self._unwritten:
            # What was decided before the breach may be written a moment after it; nothing later.
            since_s = (self.world.clock.true_ns() - self._unwritten[incarnation]) / NS_PER_S
            late = since_s > WRITTEN_S
            self.check("I-26", not late, lambda: f"a breach of {since_s:.1f} s ago is not in {now}")

    def calls_flat(self) -> None:
        """Look at the account when guard decides that it is flat; its record may be written much later."""
        flat = self.books.was_flat(self.world.clock.true_ns() - round(CALLED_FLAT_S * NS_PER_S))
        self.check("I-26", flat, lambda: f"called flat; the books: {self.books.now}")

    def _lifted(self, was: Record | None, now: Record) -> None:
        """A latch is gone: a person must have said so, and the broker shown the account flat."""
        known = set(was.resumes) if was is not None else set()
        said = [name for name in now.resumes if name not in known and name in self.resumes]
        self.check("I-29", bool(said), lambda: f"the latch of {was} is gone and nobody said so: {now}")
        if not said:
            return
        # An unreadable record latches with the first look: by then it may be flat for the closing hours.
        shown = now.last is not None and (now.last.ts_flat_ns > 0 or now.last.rule is Rule.RECORD)
        self.check("I-29", shown, lambda: f"re-armed before the broker has shown it flat: {now}")
        said_ns = min(self.resumes[name] for name in said)
        self.reach("guard: re-armed")
        old_s = SEEN_S if "re-armed" in self.world.plan.kinds else GUARD_LOOK_S + 1.0
        flat = self.books.was_flat(said_ns - round(old_s * NS_PER_S))
        self.check("I-29", flat, lambda: f"re-armed while not flat: {self.books.now}")
        kept = self.books.were_kept(said_ns - round(PICTURE_S * NS_PER_S))
        self.check("I-29", kept, lambda: f"re-armed while broken: {self.books.broken()}, {self.books.now}")
        self._ended()

    # -- what it sends ------------------------------------------------------------

    def posted(self, post: Post) -> None:
        """Look at what leaves guard for the broker."""
        if post.incarnation.name != "guard":
            return
        self.reach(f"guard sent {post.path.rpartition('/')[2]}")
        ends = post.path in (CANCEL, CLOSE)
        self.check("I-26", ends, lambda: f"guard sends {post.path}, which may open a position")
        self._justified(f"guard sends {post.path}", post.at_ns)

    def _justified(self, what: str, at_ns: int) -> None:
        blind = self._blind_ns is not None and at_ns - self._blind_ns < BLIND_FOR_S * NS_PER_S
        latched = self.latched_ns is not None or at_ns <= self._ended_ns
        asked = latched or blind or self.books.closing(at_ns, LATE_S)
        self.check("I-26", asked, lambda: f"{what}, and nothing asks for it: {self.books.now}")

    # -- in time ------------------------------------------------------------------

    def tick(self, every_s: float) -> None:
        """Look at what must not last, in the time in which guard could have ended it."""
        if not self.on:
            return
        self.books.note()
        self._forgotten()
        acts = self._can_act()
        self._written(every_s if acts and self._has_looked() else 0.0)
        self._noticed(every_s if acts else 0.0)
        self._made_flat(every_s if acts else 0.0)

    def _written(self, acted_s: float) -> None:
        """A breach is on the disk soon: until then a kill would lose it."""
        if not self._unwritten or self.world.guard_disk.failing:
            self._unwritten_s = 0.0
            return
        self._unwritten_s += acted_s
        bound_s = WRITTEN_S + READY_S + GUARD_LOOK_S
        self.check("I-26", self._unwritten_s <= bound_s, lambda: f"not written for {self._unwritten_s:.1f} s")

    def _noticed(self, acted_s: float) -> None:
        broken = self.books.broken()
        if not broken or self.latched_ns is not None:
            self._broken_s = 0.0
            return
        self._broken_s += acted_s
        bound_s = NOTICED_S + self._hindered_s()
        bound_s += AWAY_S if self.world.plan.outages else 0.0
        if "left open" in self.world.plan.kinds:
            bound_s = NOTICED_AT_ONCE_S
        self.check(
            "I-26",
            self._broken_s <= bound_s,
            lambda: f"{broken} broken for {self._broken_s:.1f} s: {self.books.now}",
        )

    def _made_flat(self, acted_s: float) -> None:
        if self.books.now.is_flat or not self.demands():
            self._unflat_s, self._held = 0.0, None
            return
        held, self._held = self._held, abs(self.books.now.net)
        if held is not None and self._held > held:  # something was opened past it
            self._unflat_s = 0.0
            return
        self._unflat_s += acted_s
        bound_s = FLAT_WITHIN_S + self._hindered_s()
        self.check(
            "I-26",
            self._unflat_s <= bound_s,
            lambda: f"not flat for {self._unflat_s:.1f} s: {self.books.now}, {self.reason}",
        )

    def _forgotten(self) -> None:
        """A breach that was not on the disk yet dies with the process; what is lost then is judged anew."""
        if self._unwritten and all(one.dead for one in self._unwritten):
            self.reach("guard: a breach died with the process before it was written")
            self._unwritten.clear()
            value = self.world.guard_disk.value
            if value is None or _record.decode(value).latch is None:
                self._ended()

    def _ended(self) -> None:
        self.latched_ns, self._ended_ns = None, self.world.clock.true_ns()

    def _can_act(self) -> bool:
        world = self.world
        guard = world.machine.processes["guard"].now
        if guard is None or guard.held or world.loop.now_s - guard.began_s < READY_S:
            return False
        if guard.bus is None or not list(guard.bus.writers):
            return False  # Redis was away at its start
        if not self.judge.session.usable():
            return False
        net, venue = world.network, world.venue
        return not (net.cut or net.blind or venue.storm or not venue.state.session_open)

    def _has_looked(self) -> bool:
        """Return whether guard has seen the account: a record that could not be read is judged by that."""
        guard = self.world.machine.processes["guard"].now
        return guard is not None and guard.beat is not None and guard.beat.ready

    def _hindered_s(self) -> float:
        plan = self.world.plan
        hindered = bool(HINDERING & set(plan.kinds)) or self._may_be_blind()
        return (HINDERED_S if hindered else 0.0) + UNANSWERED_S * plan.wire.query_failed

    def demands(self, margin_s: float = 0.0) -> bool:
        """Return whether the account has to be flat."""
        return self.latched_ns is not None or self.books.closing(self.world.clock.true_ns(), margin_s)

    # -- at rest ------------------------------------------------------------------

    def unsettled(self) -> str:
        """Return what guard still has to do, empty when all is well."""
        if not self.on:
            return ""
        if not self._spoken:
            return "guard has said nothing"
        if self.demands():
            if not self.books.now.is_flat:
                return f"guard demands flat: {self.books.now}"
            if self.halted_ns is None:
                return "guard demands flat and halts nothing"
        elif self.halted_ns is not None:
            return f"guard halts: {self.reason}"
        halts = HaltKind.GUARD in self.world.disk.standing_now().halts
        if halts != (self.halted_ns is not None):
            return f"guard {'halts' if self.halted_ns else 'does not halt'}, execution holds {halts}"
        return ""

    def holds_for_nothing(self) -> bool:
        """Return whether a latch holds though the account is flat and no rule is broken any more."""
        return self.on and self.latched_ns is not None and self.books.now.is_flat and not self.books.broken()

    def ended(self) -> None:
        """After the last resume of a person: the latch is lifted unless a rule is broken still."""
        if not self.on:
            return
        if self.latched_ns is not None:
            self.reach("guard: latched at the end")
        holds = self.holds_for_nothing()
        self.check("I-26", not holds, lambda: f"latched after a resume for nothing: {self.books.now}")


def _kind_of(words: str) -> str:
    """Return a reason without its figures."""
    return next((one for one in KNOWN if words.startswith(one)), "something is unknown")
