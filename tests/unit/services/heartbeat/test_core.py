"""Judging processes: tables of (what was seen, when) -> verdict, halt, resume."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.heartbeat.core import BeatSeen, Command, State, Tick, decide
from shared.domain.control import HELD, Beat, Duty, Halt, HaltKind, ProcessHealth, ProcessJudged, Resume

S = 1_000_000_000
MS = 1_000_000
VITAL = ("feed", "broker_sync", "execution")
STEP_MS = 250


def make_state(vital: tuple[str, ...] = VITAL) -> State:
    return State(
        build="b1",
        vital=vital,
        late_after_ns=1_500 * MS,
        dead_after_ns=3 * S,
        stuck_after_ns=3 * S,
        overdue_factor=2.5,
        start_grace_ns=20 * S,
        resume_after_ns=2 * S,
        forget_after_ns=3_600 * S,
        processes_max=8,
    )


def make_beat(
    process: str,
    seq: int,
    *,
    ready: bool = True,
    started: int = 1,
    build: str = "b1",
    duties: dict[str, Duty] | None = None,
    detail: dict[str, str] | None = None,
) -> Beat:
    return Beat(
        process=process,
        pid=started,
        host="h",
        build=build,
        started_at_ns=started,
        ts_ns=0,
        seq=seq,
        ready=ready,
        duties=duties or {},
        detail=detail or {},
    )


class Room:
    """Processes that beat every half second, but for those that a test silences."""

    def __init__(self, vital: tuple[str, ...] = VITAL) -> None:
        self.state = make_state(vital)
        self.now_ms = 0
        self.seq = dict.fromkeys(vital, 0)
        self.silent: set[str] = set()
        self.started = dict.fromkeys(vital, 1)
        self.ready = dict.fromkeys(vital, True)
        self.duties: dict[str, dict[str, Duty]] = {}
        self.detail: dict[str, dict[str, str]] = {}
        self.said: list[tuple[int, Command]] = []

    def hear(self, name: str, *, live: bool = True) -> None:
        self.seq[name] += 1
        beat = make_beat(
            name,
            self.seq[name],
            ready=self.ready[name],
            started=self.started[name],
            duties=self.duties.get(name),
            detail=self.detail.get(name),
        )
        decide(BeatSeen(beat=beat, live=live, now_ns=self.now_ms * MS), self.state)

    def run(self, seconds: float) -> list[Command]:
        """Let time pass and return what was said meanwhile."""
        first = len(self.said)
        end_ms = self.now_ms + round(seconds * 1_000)
        while self.now_ms < end_ms:
            if self.now_ms % 500 == 0:
                for name in sorted(self.seq.keys() - self.silent):
                    self.hear(name)
            tick = Tick(now_ns=self.now_ms * MS, ts_ns=self.now_ms * MS)
            self.said += [(self.now_ms, command) for command in decide(tick, self.state)]
            self.now_ms += STEP_MS
        return [command for _, command in self.said[first:]]

    def controls(self) -> list[tuple[int, Halt | Resume]]:
        return [(at, c) for at, c in self.said if isinstance(c, Halt | Resume)]

    def health(self, name: str) -> ProcessHealth | None:
        return self.state.processes[name].health


def trading_room() -> Room:
    """A room in which trading goes on."""
    room = Room()
    room.run(5)
    assert isinstance(room.controls()[-1][1], Resume)
    room.said.clear()
    return room


def test_start_halts_until_everyone_is_ready_and_stays_so() -> None:
    room = Room()
    room.silent = set(VITAL)
    room.run(1)
    room.silent = set()
    room.run(4)
    (at_halt, halt), (at_resume, resume) = room.controls()
    assert (at_halt, halt.kind) == (0, HaltKind.LIVENESS)
    assert "starting" in halt.reason
    assert isinstance(resume, Resume)
    assert at_resume == 3_000  # first beats at 1.0 s, then 2 s of peace


@pytest.mark.parametrize(
    ("silence_ms", "expected"),
    [
        (1_250, ProcessHealth.ALIVE),
        (1_500, ProcessHealth.LATE),
        (2_750, ProcessHealth.LATE),
        (3_000, ProcessHealth.DEAD),
    ],
)
@pytest.mark.proves("I-20")
def test_silence_thresholds(silence_ms: int, expected: ProcessHealth) -> None:
    room = trading_room()
    last_ms = room.state.processes["feed"].moved_ns // MS
    room.silent = {"feed"}
    room.run((last_ms + silence_ms - room.now_ms) / 1_000 + STEP_MS / 1_000)
    assert room.health("feed") is expected


@pytest.mark.parametrize("name", VITAL)
@pytest.mark.proves("I-20")
def test_a_lost_vital_process_halts_within_5_s_and_its_return_resumes(name: str) -> None:
    room = trading_room()
    lost_ms = room.now_ms
    room.silent = {name}
    room.run(6)
    ((at, halt),) = room.controls()
    assert isinstance(halt, Halt)
    assert name in halt.reason
    assert at - lost_ms <= 3_500
    room.silent = set()
    room.run(4)
    assert [type(c) for _, c in room.controls()] == [Halt, Resume]


def test_a_process_that_is_not_vital_halts_nothing() -> None:
    room = trading_room()
    room.seq["strategy-1"], room.started["strategy-1"], room.ready["strategy-1"] = 0, 1, True
    room.run(2)
    room.silent = {"strategy-1"}
    said = room.run(6)
    verdicts = [c.health for c in said if isinstance(c, ProcessJudged)]
    assert verdicts == [ProcessHealth.LATE, ProcessHealth.DEAD]
    assert room.controls() == []


def test_a_fast_restart_is_no_loss() -> None:
    room = trading_room()
    room.started["feed"], room.seq["feed"], room.ready["feed"] = 2, 0, False
    room.run(2)
    assert room.health("feed") is ProcessHealth.STARTING
    room.ready["feed"] = True
    room.run(5)
    assert room.controls() == []


def test_a_restart_that_does_not_become_ready_is_a_loss() -> None:
    room = trading_room()
    room.started["execution"], room.seq["execution"], room.ready["execution"] = 2, 0, False
    room.run(6)
    assert [type(c) for _, c in room.controls()] == [Halt]
    assert room.health("execution") is ProcessHealth.STARTING
    room.run(20)
    assert room.health("execution") is ProcessHealth.DEAD


@pytest.mark.proves("I-20")
@pytest.mark.parametrize("silent_s", [1.5, 2.0, 2.5])
def test_silence_before_a_restart_counts_to_the_5_s_in_which_new_exposure_halts(silent_s: float) -> None:
    room = trading_room()
    since_ms = room.now_ms
    room.silent.add("execution")
    room.run(silent_s)
    room.silent.clear()
    room.started["execution"], room.seq["execution"], room.ready["execution"] = 2, 0, False
    room.run(6)
    ((at_ms, control),) = room.controls()
    assert isinstance(control, Halt)
    assert at_ms - since_ms <= 3_000 + STEP_MS


@pytest.mark.proves("I-20")
def test_a_loop_that_beats_while_its_duty_stands_still_is_dead() -> None:
    room = trading_room()
    room.duties["execution"] = {"orders": Duty(interval_s=1.0, done=7)}
    lost_ms = room.now_ms
    room.run(5)
    ((at, halt),) = room.controls()
    assert "orders" in halt.reason
    assert at - lost_ms <= 3_250  # 2.5 intervals, then the next beat
    room.duties["execution"] = {"orders": Duty(interval_s=1.0, done=8)}
    room.run(1)
    assert room.health("execution") is ProcessHealth.ALIVE


def test_silence_is_called_silence_and_not_a_duty_standing_still() -> None:
    room = trading_room()
    room.duties["feed"] = {"watch": Duty(interval_s=1.0, done=7)}
    room.run(0.5)
    room.silent = {"feed"}
    room.run(5)
    ((_, halt),) = room.controls()
    assert "silent" in halt.reason


@pytest.mark.proves("I-20")
def test_waiting_work_that_nobody_takes_is_death() -> None:
    room = trading_room()
    room.duties["feed"] = {"append": Duty(done=7, waiting_since_ns=123)}
    lost_ms = room.now_ms
    room.run(5)
    ((at, halt),) = room.controls()
    assert "append" in halt.reason
    assert at - lost_ms <= 3_750


def test_a_duty_of_30_s_may_rest_between_two_turns() -> None:
    room = trading_room()
    room.duties["broker_sync"] = {"reconcile": Duty(interval_s=30.0, done=7)}
    room.run(74)
    assert room.controls() == []
    room.run(3)
    assert [type(c) for _, c in room.controls()] == [Halt]


def test_a_repeated_beat_is_no_life() -> None:
    room = trading_room()
    room.silent = {"feed"}
    last = make_beat("feed", room.seq["feed"])
    for _ in range(16):
        decide(BeatSeen(beat=last, live=True, now_ns=room.now_ms * MS), room.state)
        room.run(0.25)
    assert room.health("feed") is ProcessHealth.DEAD


def test_a_stored_beat_proves_life_only_when_it_moves() -> None:
    room = Room(vital=("feed",))
    room.silent = {"feed"}
    room.hear("feed", live=False)
    room.run(1)
    assert room.health("feed") is ProcessHealth.STARTING
    room.hear("feed", live=False)
    room.run(0.25)
    assert room.health("feed") is ProcessHealth.ALIVE


def test_a_late_word_of_an_earlier_incarnation_is_refused() -> None:
    room = trading_room()
    room.started["feed"], room.seq["feed"] = 5, 0
    room.run(1)
    old = make_beat("feed", 99, started=1)
    decide(BeatSeen(beat=old, live=True, now_ns=room.now_ms * MS), room.state)
    assert room.state.processes["feed"].started_at_ns == 5
    assert room.state.refused_beats == 1


def test_nobody_is_blamed_for_our_own_pause() -> None:
    room = trading_room()
    room.now_ms += 60_000
    tick = Tick(now_ns=room.now_ms * MS, ts_ns=0)
    assert decide(tick, room.state) == []
    room.run(2)
    assert room.controls() == []


@pytest.mark.proves("I-20")
def test_a_beat_that_waited_for_us_does_not_make_a_process_live_ahead() -> None:
    room = trading_room()
    room.now_ms += 60_000
    for name in VITAL:  # the newest of before, in our socket when we wake
        room.hear(name)
    room.silent.add("feed")
    since_ms = room.now_ms
    room.run(5)
    at_ms, control = room.controls()[-1]
    assert isinstance(control, Halt)
    assert at_ms - since_ms <= 3_000 + STEP_MS


@pytest.mark.proves("I-20")
def test_a_heartbeat_that_is_always_late_notices_a_death_all_the_same() -> None:
    """Each of its turns is a little more than a second after the last: that is no pause to forgive."""
    room = trading_room()
    died_ms = room.now_ms
    said: list[Command] = []
    while not said and room.now_ms < died_ms + 20_000:
        room.now_ms += 1_100
        for name in sorted(set(VITAL) - {"feed"}):
            room.hear(name)
        tick = Tick(now_ns=room.now_ms * MS, ts_ns=0)
        said = [one for one in decide(tick, room.state) if isinstance(one, Halt)]
    assert said, "feed is dead"
    assert room.now_ms - died_ms <= 5_000


@pytest.mark.proves("I-20")
def test_a_heartbeat_that_is_always_late_notices_a_duty_that_stands_still() -> None:
    room = trading_room()
    room.duties["feed"] = {"append": Duty(interval_s=1.0, done=7, ts_done_ns=1)}
    for _ in range(6):
        room.now_ms += 1_100
        for name in VITAL:
            room.hear(name)
        decide(Tick(now_ns=room.now_ms * MS, ts_ns=0), room.state)
    assert room.health("feed") is ProcessHealth.DEAD


@pytest.mark.proves("I-20")
def test_a_stored_beat_that_came_during_our_own_pause_is_no_life_of_now() -> None:
    """It is found half a second after we woke, and may have lain there for as long as we slept."""
    room = Room()
    for name in VITAL:
        room.hear(name, live=False)
    room.run(1)
    room.silent.add("broker_sync")
    room.now_ms += 7_000
    room.run(0.75)
    room.hear("broker_sync", live=False)
    room.run(5)
    assert not [one for _, one in room.controls() if isinstance(one, Resume)]


@pytest.mark.proves("I-20")
def test_after_our_own_pause_a_halt_stays_until_all_were_seen_to_be_well() -> None:
    room = Room()
    room.run(1)
    assert isinstance(room.controls()[-1][1], Halt)
    room.silent.add("execution")  # dies while we are frozen
    room.now_ms += 60_000
    room.run(4)
    assert not [one for _, one in room.controls() if isinstance(one, Resume)]
    room.silent.clear()
    began_ms = room.now_ms
    room.run(4)
    at_ms, control = room.controls()[-1]
    assert isinstance(control, Resume)
    assert at_ms - began_ms >= 2_000


@pytest.mark.proves("I-30")
def test_another_build_is_reported() -> None:
    state = make_state(vital=("feed",))
    decide(BeatSeen(beat=make_beat("feed", 1, build="b2"), live=True, now_ns=0), state)
    judged = decide(Tick(now_ns=0, ts_ns=0), state)[0]
    assert isinstance(judged, ProcessJudged)
    assert "b2" in judged.reason


@pytest.mark.proves("I-30")
@pytest.mark.parametrize(("build", "settings"), [("b2", ""), ("b1", "other")])
def test_a_vital_process_of_another_build_or_settings_halts_until_it_is_restarted(
    build: str, settings: str
) -> None:
    room = trading_room()
    said = len(room.controls())
    room.silent = {"feed"}
    room.started["feed"], room.seq["feed"] = 2, 0
    for _ in range(20):
        room.seq["feed"] += 1
        beat = make_beat("feed", room.seq["feed"], started=2, build=build)
        beat = msgspec.structs.replace(beat, settings=settings)
        decide(BeatSeen(beat=beat, live=True, now_ns=room.now_ms * MS), room.state)
        room.run(0.5)
    ((_, halt),) = room.controls()[said:]
    assert isinstance(halt, Halt) and halt.kind is HaltKind.LIVENESS
    assert "feed runs" in halt.reason and "restart" in halt.reason
    room.started["feed"], room.seq["feed"], room.silent = 3, 0, set()
    room.run(5)
    assert isinstance(room.controls()[-1][1], Resume)


def test_the_number_of_processes_is_bounded() -> None:
    state = make_state()
    decide(Tick(now_ns=0, ts_ns=0), state)
    for n in range(20):
        decide(BeatSeen(beat=make_beat(f"strategy-{n}", 1), live=True, now_ns=0), state)
    assert len(state.processes) == state.processes_max
    assert state.refused_beats == 15


def test_a_process_that_left_is_forgotten_and_a_vital_one_is_not() -> None:
    room = trading_room()
    room.seq["old"], room.started["old"], room.ready["old"] = 0, 1, True
    room.run(1)
    room.silent = {"old", "feed"}
    room.state.forget_after_ns = 10 * S
    room.run(12)
    assert "old" not in room.state.processes
    assert "feed" in room.state.processes


def test_a_resume_that_execution_does_not_show_is_said_again() -> None:
    """Redis had lost entries, and execution passed the resume over for one that it had read under its id."""
    room = trading_room()
    room.detail["execution"] = {HELD: "liveness, operator"}
    room.run(4)
    assert room.controls() == []
    room.run(10)
    at = [(at, type(c), c.kind) for at, c in room.controls()]
    assert at == [(t, Resume, HaltKind.LIVENESS) for t in (10_000, 15_000)]
    room.detail["execution"] = {HELD: "operator"}
    room.said.clear()
    room.run(20)
    assert room.controls() == []


def test_a_resume_is_not_said_again_on_waking() -> None:
    """Frozen for 14 s: nobody was seen to be well since."""
    room = trading_room()
    room.detail["execution"] = {HELD: "liveness"}
    room.run(4)
    room.now_ms += 14_000
    room.silent = {"execution"}
    room.run(10)
    assert not any(isinstance(c, Resume) for _, c in room.controls())


@pytest.mark.parametrize("life", ["dies", "starts anew", "halted"])
def test_a_resume_is_not_said_again_by_what_was_heard_before(life: str) -> None:
    room = trading_room()
    room.detail["execution"] = {HELD: "liveness"}
    room.run(4)
    room.silent = {"feed"} if life == "halted" else {"execution"}
    room.run(3)
    room.said.clear()
    if life == "starts anew":
        room.silent, room.started["execution"], room.ready["execution"] = set(), 2, False
        room.detail["execution"] = {HELD: "starting"}
    room.run(10)
    assert not any(isinstance(c, Resume) for _, c in room.controls())


def test_only_liveness_is_ever_resumed() -> None:
    room = trading_room()
    room.silent = {"feed"}
    room.run(5)
    room.silent = set()
    room.run(5)
    assert {c.kind for _, c in room.controls()} == {HaltKind.LIVENESS}


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(VITAL)), st.integers(min_value=1, max_value=40)),
        min_size=1,
        max_size=8,
    )
)
@pytest.mark.proves("I-20")
def test_halts_and_resumes_tell_the_truth_whoever_is_silent(phases: list[tuple[set[str], int]]) -> None:
    """However processes come and go: never resumed while one is dead, always halted soon after a loss."""
    room = trading_room()
    for silent, quarters in phases:
        room.silent = silent
        room.run(quarters * STEP_MS / 1_000)
        dead = [name for name in VITAL if room.health(name) is ProcessHealth.DEAD]
        if dead:
            assert room.state.halted
    room.silent = set()
    room.run(6)
    assert room.state.halted is False
    kinds = [type(c) for _, c in room.controls()]
    assert not any(a is b is Resume for a, b in itertools.pairwise(kinds))
