"""The process of one strategy instance: what it is told, its limits, how it ends. `zygote.py` starts it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import msgspec

from services.strategy import spec as exits
from services.strategy.ends import Stopped, StrategyRaised, told
from services.strategy.loading import InstanceRefused, load
from services.strategy.progress import ProgressPage
from services.strategy.spec import WorkerSpec
from services.strategy.worker import Worker
from shared.bus.blocking import BlockingBus
from shared.bus.client import Address
from shared.bus.port import Fenced, RolledBack
from shared.runtime.fork import call_me
from shared.runtime.logs import Log, set_up_logs
from shared.strategy.memory import MemoryRefused

ADDRESS_SPACE_EXTRA_MB = 4_096


def run(spec: WorkerSpec, page: ProgressPage, log: Log, stop_asked: Callable[[], bool]) -> int:
    """Run one incarnation and return its exit code; the reason of a bad end is on the page."""

    def work() -> None:
        loaded = load(spec.strategy_id, spec.strategy_class, spec.settings)
        gc.collect()
        gc.freeze()  # what importing made stays: never look through it again
        gc.set_threshold(50_000, 20, 50)
        bus = BlockingBus(Address(**spec.redis), now_ns=time.time_ns, block_ms=spec.commit_interval_ms)
        worker = Worker(
            spec, loaded, bus=bus, page=page, log=log,
            now_ns=time.time_ns, sleep=time.sleep, stop_asked=stop_asked,
        )  # fmt: skip
        worker.run()

    return end_of(work, page, log)


def end_of(work: Callable[[], None], page: ProgressPage, log: Log) -> int:
    """Do the work of one incarnation; return its exit code, with the reason of a bad end on the page."""
    try:
        work()
    except Stopped:
        return exits.EXIT_STOPPED
    except Fenced as fenced:
        page.say(str(fenced))
        return exits.EXIT_FENCED
    except RolledBack as rolled_back:
        page.say(str(rolled_back))
        return exits.EXIT_ROLLED_BACK
    except (InstanceRefused, MemoryRefused) as refused:
        page.say(str(refused))
        log.error("strategy_refused", why=str(refused))
        return exits.EXIT_REFUSED
    except StrategyRaised as raised:
        page.say(f"{raised.error} (at {raised.cause})")
        log.exception("strategy_failed", cause=raised.cause)
        return exits.EXIT_STRATEGY_FAILED
    except Exception as error:
        # The outermost loop of this process: an import of the author's, or a bug of ours.
        page.say(told(error))
        log.exception("strategy_failed")
        return exits.EXIT_STRATEGY_FAILED
    return exits.EXIT_STOPPED


def _limit_memory(megabytes: int) -> None:
    """A backstop behind the host's look at resident memory: virtual, hence generous."""
    try:
        import resource
    except ImportError:
        return
    limit = (megabytes + ADDRESS_SPACE_EXTRA_MB) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _watch_pipe() -> None:
    while os.read(0, 1):
        pass
    os._exit(exits.EXIT_HOST_GONE)


def main(progress_fd: int) -> None:
    """Read the spec from standard input, work, and leave with an exit code of `spec.py`."""
    page = ProgressPage(progress_fd)
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 65_536)
        if not part:
            sys.exit(exits.EXIT_HOST_GONE)
        line += part
    spec = msgspec.json.decode(line, type=WorkerSpec)
    call_me(spec.strategy_id)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_watch_pipe, daemon=True).start()
    _limit_memory(spec.memory_max_mb)
    log = set_up_logs(f"strategy:{spec.strategy_id}", spec.log_level)
    code = run(spec, page, log, stop.is_set)
    sys.stdout.flush()
    # Not sys.exit: a strategy's own threads or exit handlers must not keep the process.
    os._exit(code)
