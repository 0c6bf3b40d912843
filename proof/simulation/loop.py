"""One event loop with a clock of its own: time passes only when nothing else is left to do.

A virtual hour without work costs nothing, and the same program with the same chances takes the same steps.
Tasks run in the order in which asyncio makes them ready. A handle belongs to the process (`OWNER`) in whose
context it was made: those of a dead process are dropped, as a kill drops them, those of a stopped one wait
for its return.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

NS_PER_S = 1_000_000_000
EPOCH_NS = 1_772_461_800 * NS_PER_S
"""Monday, 2 March 2026, 14:30 UTC: an hour of trading."""

T = TypeVar("T")


class Owner(Protocol):
    """A process whose handles may be dropped or put aside."""

    held: bool
    """Dead or stopped: ask `park` before a handle of it runs."""

    def park(self, handle: asyncio.Handle) -> None: ...


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("OWNER", default=None)


class Deadlock(AssertionError):
    """Nothing is ready and nothing is scheduled: somebody waits for ever."""


class _NoSelector:
    """There are no files: what would be waited for is virtual."""

    def select(self, timeout: float | None) -> list[object]:
        raise AssertionError("the loop looks at its own schedule")

    def get_map(self) -> dict[int, object]:
        return {}


class SimTask(asyncio.Task[T]):
    """A task whose place in a set does not depend on its address."""

    def __init__(self, coro: Coroutine[Any, Any, T], *, loop: SimLoop, **kwargs: Any) -> None:
        loop.tasks_made += 1
        self.number = loop.tasks_made
        super().__init__(coro, loop=loop, **kwargs)
        self._log_destroy_pending = False  # a kill leaves tasks behind

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimHandle(asyncio.TimerHandle):
    """As the base class, without what only its debug mode asks for; a world makes thousands."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Any,
        loop: SimLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._when = when
        self._cancelled = self._scheduled = False
        self._repr = self._source_traceback = None


class SimLoop(asyncio.BaseEventLoop):
    """See the module."""

    _ready: Any
    _scheduled: Any

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self.now_s = 0.0
        self.tasks_made = 0
        self._timers = 0
        self.steps = 0
        self.failure: BaseException | None = None
        self.thread_s: Callable[[], float] = lambda: 0.0
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self.now_s

    def now_ns(self) -> int:
        """Return virtual nanoseconds since the start of the world."""
        return round(self.now_s * NS_PER_S)

    def _process_events(self, event_list: object) -> None: ...

    def _write_to_self(self) -> None: ...

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Signals are the plan's: a kill, a stop."""

    def _asyncgen_firstiter_hook(self, agen: object) -> None: ...

    def _asyncgen_finalizer_hook(self, agen: object) -> None:
        """A kill leaves generators behind as they are."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a killed process left unfinished is nobody's news; live ones are judged by their end.

        An error of the world itself ends it: a fault that was not injected, a check that was not made.
        """
        handle = context.get("handle")
        if handle is not None and handle._context.get(OWNER) is None:
            self.failure = context.get("exception")

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = SimHandle(0.0, callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """As the base class does it, with a heap that is compared without asking the handles."""
        timer = SimHandle(when, callback, args, self, context)
        self._timers += 1
        heapq.heappush(self._scheduled, (when, self._timers, timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        if self.failure is not None:
            raise self.failure
        ready, scheduled = self._ready, self._scheduled
        if not ready:
            while scheduled and scheduled[0][2]._cancelled:
                heapq.heappop(scheduled)
            if not scheduled:
                raise Deadlock("nothing is ready and nothing is scheduled")
            if scheduled[0][0] > self.now_s:
                self.now_s = scheduled[0][0]
        now_s = self.now_s
        while scheduled and scheduled[0][0] <= now_s:
            handle = heapq.heappop(scheduled)[2]
            if not handle._cancelled:
                ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)
            if owner is not None and owner.held:
                owner.park(handle)
                continue
            self.steps += 1
            handle._run()

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do what a thread would do at one moment, `thread_s()` from now, unless its process is dead then."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_later(self.thread_s(), work)
        return future

    def again(self, handles: list[asyncio.Handle]) -> None:
        """Make handles ready that were put aside while their process was stopped."""
        self._ready.extend(handles)


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
    assert isinstance(loop, SimLoop)
    return SimTask(coro, loop=loop, **kwargs)


class SimClock:
    """See `shared.runtime.clock.Clock`: one machine, whose wall clock may jump.

    Attributes:
        starts_ns: The time at which the world begins.
        jump_ns: What all jumps of the wall clock so far add up to.
    """

    def __init__(self, loop: SimLoop, starts_ns: int = EPOCH_NS) -> None:
        self._loop = loop
        self.starts_ns = starts_ns
        self._boots = 1
        self._booted_ns = 0
        self.jump_ns = 0

    def now_ns(self) -> int:
        return self.starts_ns + self._loop.now_ns() + self.jump_ns

    def true_ns(self) -> int:
        """Return the time as the broker and the checkers have it."""
        return self.starts_ns + self._loop.now_ns()

    def monotonic_ns(self) -> int:
        return NS_PER_S + self._loop.now_ns() - self._booted_ns

    def boot(self) -> str:
        return f"boot {self._boots}"

    def start_anew(self) -> None:
        """Be the clock of a machine that starts now; nobody that read the old one is alive."""
        self._boots += 1
        self._booted_ns = self._loop.now_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


def run(loop: SimLoop, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` to its end on `loop`; what is left then is dropped."""
    assert asyncio._get_running_loop() is None, "a world inside a world"
    try:
        return loop.run_until_complete(main())
    finally:
        loop._ready.clear()
        loop._scheduled.clear()
        loop.close()


def quiet() -> None:
    """Let coroutines that a kill left half done be thrown away without a word; once for each process."""
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore", RuntimeWarning)
