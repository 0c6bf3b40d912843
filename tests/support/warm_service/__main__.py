"""Says its pid; ends with code N when it is sent `N` on its pipe, waits for a signal otherwise."""

from __future__ import annotations

import os
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    line = sys.stdin.readline()
    sys.exit(int(line))
