"""What a forked process needs beside its work: a name, to die with its parent, and to end where it is."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_NAME_BYTES_MAX = 15


def call_me(name: str) -> None:
    """Have `top` and `ps -o comm` show this name: the command line is the parent's (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:_NAME_BYTES_MAX]))


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone (Linux; elsewhere nothing happens).

    Args:
        parent: The pid that the parent had when it forked us.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before the kernel knew that we want to follow


def end_with(body: Callable[[], object]) -> NoReturn:
    """Run all that a forked process is for, and end there: never back into what its parent was doing."""
    code = 0
    try:
        body()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
