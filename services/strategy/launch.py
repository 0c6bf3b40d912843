"""First moments of a worker: `python -m services.strategy.launch PROGRESS_FD NICE HOST_PID`.

Priority and fate are settled before anything is imported, so that many workers starting at once do not
disturb the processes that keep the account safe.
"""

from __future__ import annotations

import gc
import os
import signal
import sys


def _die_with_host(host_pid: int) -> None:
    """Linux: have the kernel kill us when the host is gone; elsewhere the closed pipe does it."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != host_pid:
        sys.exit(3)  # it died before the kernel knew that we want to follow


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the host's to answer
    fd, nice, host_pid = (int(argument) for argument in sys.argv[1:4])
    os.nice(nice)
    _die_with_host(host_pid)

    gc.disable()  # what is imported is never garbage: to look for it takes a tenth of the time
    from services.strategy.process import main

    gc.freeze()
    gc.enable()
    main(fd)
