"""Many seeds on all cores: what one process of the simulator does, and how the results come together."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.pool import Pool

import msgspec

from proof.record import Record
from proof.simulation import swarm

CHUNK, CHUNKS_A_LIFE = 20, 2
COLLECT_EVERY = CHUNK * CHUNKS_A_LIFE
"""Worlds; each leaves 1.6 MB behind. Only the hunt for a planted bug plays more in one job."""


class Outcome(msgspec.Struct, kw_only=True):
    """What a run of several seeds has shown.

    Attributes:
        failed: Seed -> the invariants that did not hold.
        virtual_s: Virtual time of all worlds together.
    """

    record: Record
    failed: dict[int, dict[str, int]] = {}
    seeds: int = 0
    virtual_s: float = 0.0
    steps: int = 0
    kills: int = 0


def empty() -> Outcome:
    return Outcome(record=Record(machine="simulation", command="", build="", started=""))


def regression_seeds() -> list[int]:
    """Return the seeds that have failed before; each run plays them too."""
    return swarm.regression_seeds(swarm.REGRESSION.read_text(encoding="utf-8"))


UNFIT = re.compile(r"\b(TypeError|AttributeError|NameError)\(")


def play_all(seeds: Sequence[int], mutation: str | None = None, *, until_caught: bool = False) -> Outcome:
    """Play the worlds of some seeds in this process."""
    from proof.simulation import mutations, processes, world

    processes.install()
    outcome = empty()
    for seed in seeds:
        with mutations.planted(mutation):
            one = world.play(seed)
        record = one.judge.record
        violations = dict(record.violations)
        if mutation is not None and violations:
            # What does not hold without the bug either was not caught by it.
            for invariant in world.play(seed).judge.record.violations:
                violations.pop(invariant, None)
            # Nor by a program that only fails, and least by a patch that does not fit the code any more.
            violations.pop("I-18", None)
            if any(" failed: " in text and UNFIT.search(text) for text in record.texts):
                violations = {}
        outcome.record.add(record)
        outcome.seeds += 1
        outcome.virtual_s += one.loop.now_s
        outcome.steps += one.loop.steps
        outcome.kills += one.machine.kills
        if violations:
            outcome.failed[seed] = violations
        del one
        if outcome.seeds % COLLECT_EVERY == 0:
            gc.collect()
        if violations and until_caught:
            break
    return outcome


def _begin() -> None:
    """Make a fresh process ready: what is imported now is never looked through for garbage."""
    from proof.simulation import processes

    processes.install()
    gc.collect()
    gc.freeze()
    gc.disable()


def _work(job: tuple[list[int], str | None, bool]) -> bytes:
    seeds, mutation, until_caught = job
    return msgspec.json.encode(play_all(seeds, mutation, until_caught=until_caught))


def spread(seeds: Sequence[int], *, processes: int, mutation: str | None = None) -> Iterator[Outcome]:
    """Yield the outcomes of parts of `seeds` as they come in."""
    jobs = [(list(seeds[at : at + CHUNK]), mutation, False) for at in range(0, len(seeds), CHUNK)]
    yield from _pooled(jobs, processes)


def mutants(hunts: Mapping[str, Sequence[int]], *, processes: int) -> Iterator[tuple[str, Outcome]]:
    """Yield each planted bug with the worlds up to the first that caught it.

    Args:
        hunts: Bug -> the seeds it is hunted in, in this order.
    """
    jobs = [(list(seeds), name, True) for name, seeds in hunts.items()]
    with _pool(processes) as pool:
        for name, packed in pool.imap_unordered(_hunt, jobs):
            yield name, msgspec.json.decode(packed, type=Outcome)


def _pool(processes: int) -> Pool:
    """Return processes that end before they collect: what worlds leave behind is dropped faster with them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["proof.simulation.world"])
    return context.Pool(processes, initializer=_begin, maxtasksperchild=CHUNKS_A_LIFE)


def _hunt(job: tuple[list[int], str, bool]) -> tuple[str, bytes]:
    return job[1], _work(job)


def _pooled(jobs: list[tuple[list[int], str | None, bool]], processes: int) -> Iterator[Outcome]:
    with _pool(processes) as pool:
        for packed in pool.imap_unordered(_work, jobs):
            yield msgspec.json.decode(packed, type=Outcome)


def digests(seeds: Sequence[int], hash_seed: str) -> list[str]:
    """Return the trace hash of each seed, played in a fresh process with that hash seed."""
    command = [sys.executable, "-m", "proof.simulation", "--digests", ",".join(map(str, seeds))]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
