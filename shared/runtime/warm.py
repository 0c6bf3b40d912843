"""`python -m shared.runtime.warm services.feed`: run a service, and again at once when it is killed.

Importing what a service needs takes most of its start. This process imports it once and forks; the child is
the service. A child that ends in any way but by its own will is forked anew within milliseconds, so that a
killed service decides again in a fraction of a second. It dies with this process, which a supervisor starts
again the slow way. Nothing of the service ever runs here: no event loop, no thread, no secret.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from shared.runtime.fork import call_me, die_with, end_with

EXIT_SETTINGS = 78
"""As in `shared.runtime.service`: starting again would not help."""
HALT = signal.SIGUSR1
"""Kept until the service hears it: it may come between two lives, or before the service listens."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, HALT)
HEARD_WITHIN_S = 3.0
"""Who ends so soon after a halt was passed on may not have acted on it: the next one is told too."""
SHORT_LIFE_S = 3.0
"""Who lives longer has begun its work: what ends it then is no crash at the start; waiting helps nobody."""
PAUSE_S_MAX = 5.0
POLL_S = 0.05


def pause_s(short_lives: int) -> float:
    """Return how long to wait before the next start after so many short lives in a row: the first is free."""
    return 0.0 if short_lives <= 1 else min(PAUSE_S_MAX, 0.1 * 2.0 ** (short_lives - 2))


def is_final(code: int) -> bool:
    """Did the service end as it wanted to? `code` is negative for a signal."""
    return code in (0, EXIT_SETTINGS)


class Warm:
    """Keeps one service running."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._service = module.rpartition(".")[2]
        self._child = 0
        self._stop_asked = False
        self._halt_owed = False
        self._halt_told_s = -HEARD_WITHIN_S

    def run(self) -> int:
        """Return the exit code for the supervisor, when the service ended for good or we are told to stop."""
        signal.pthread_sigmask(signal.SIG_BLOCK, (HALT,))  # until there is a child to pass it to
        call_me(f"warm {self._service}")
        gc.disable()  # what is imported is never garbage: to look for it takes a tenth of the time
        importlib.import_module(f"{self._module}.__main__")
        gc.freeze()  # nor is it in a child, which shares these pages until somebody writes to them
        gc.enable()
        del sys.modules[f"{self._module}.__main__"]  # it runs anew, under another name, in each child
        for number in FORWARDED:
            signal.signal(number, self._forward)
        short_lives = 0
        while True:
            began_s = time.monotonic()
            code = self._live()
            if self._stopping():
                return code if code >= 0 else 128 - code
            if is_final(code):
                return code
            short_lives = short_lives + 1 if time.monotonic() - began_s < SHORT_LIFE_S else 1
            self._wait(pause_s(short_lives))
            if self._stopping():
                return 0

    def _stopping(self) -> bool:
        return self._stop_asked

    def _live(self) -> int:
        """Fork the service and return how it ended."""
        # A signal between the fork and knowing the child's id would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        parent = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            self._become_service(parent)
        if self._halt_owed:
            self._halt_owed = False
            self._pass_on(HALT)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        while True:
            # As process 1 of a container, whatever lost its parent ends here, too.
            pid, status = os.waitpid(-1, 0)
            if pid == self._child:
                self._child = 0
                if time.monotonic() - self._halt_told_s < HEARD_WITHIN_S:
                    self._halt_owed = True
                return os.waitstatus_to_exitcode(status)

    def _become_service(self, parent: int) -> NoReturn:
        for number in FORWARDED:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # A halt stays blocked, so that it waits until the service listens.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number for number in FORWARDED if number != HALT])
        os.setpgid(0, 0)  # a terminal's Ctrl-C comes once, through the parent
        die_with(parent)
        call_me(self._service)
        sys.argv[:] = [self._module]
        end_with(lambda: runpy.run_module(self._module, run_name="__main__", alter_sys=True))

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if number != HALT:
            self._stop_asked = True
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        if self._child:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self._child, number)
        if number == HALT:
            self._halt_told_s = time.monotonic()
            self._halt_owed = not self._child

    def _wait(self, seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while not self._stopping() and time.monotonic() < deadline_s:
            time.sleep(POLL_S)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m shared.runtime.warm MODULE, such as services.feed")
    sys.exit(Warm(sys.argv[1]).run())
