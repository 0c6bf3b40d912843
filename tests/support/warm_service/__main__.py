"""Says its pid; ends with code N when it is sent `N` on its pipe, waits for a signal otherwise.

Sent `listen`, it says whether a halt came, and ends with code 0.
"""

from __future__ import annotations

import os
import signal
import sys

LISTENS_S = 3.0

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    line = sys.stdin.readline()
    if line == "listen\n":
        heard = signal.sigtimedwait((signal.SIGUSR1,), LISTENS_S)
        sys.stdout.write("halt\n" if heard else "nothing\n")
        sys.exit(0)
    sys.exit(int(line))
