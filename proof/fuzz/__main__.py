"""`make fuzz RUNS=N`: N inputs over all targets, by three engines; exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from proof.fuzz import guided
from proof.fuzz.mutate import REPLACEMENTS, broken_json
from proof.fuzz.targets import TARGETS
from proof.record import Record
from shared.runtime.build import BUILD

RECORD = Path("build/proof/fuzz.json")
ENGINES = {"broken": 60, "hypothesis": 10, "guided": 30}
"""Of a target's inputs, in parts of a hundred."""
INPUT_BYTES_MAX = 20_000


class Job(NamedTuple):
    engine: str
    target: str
    runs: int
    seed: int


class Done(NamedTuple):
    job: Job
    runs: int
    failure: str


def run_job(job: Job) -> Done:
    """Run one engine on one target."""
    runs, failure = {"broken": _broken, "hypothesis": _hypothesis, "guided": _guided}[job.engine](job)
    return Done(job, runs, failure)


def _broken(job: Job) -> tuple[int, str]:
    target, rng = TARGETS[job.target], Random(job.seed)
    for number in range(job.runs):
        sample = rng.choice(target.samples)
        data = sample[: target.head_bytes] + broken_json(sample[target.head_bytes :], rng)
        try:
            target.check(data)
        except Exception as error:  # whatever comes out is the finding
            return number + 1, f"{_told(error)} on {data!r}"[:2_000]
    return job.runs, ""


def _hypothesis(job: Job) -> tuple[int, str]:
    """Shrinks what it finds."""
    target, count = TARGETS[job.target], 0
    head = target.head_bytes

    @seed(job.seed)
    @settings(
        max_examples=job.runs,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(
        sample=st.sampled_from(target.samples),
        at=st.integers(0, 2_000),
        value=st.one_of(st.binary(max_size=20), st.text(max_size=20), st.sampled_from(REPLACEMENTS)),
        cut=st.integers(0, 12),
        other_head=st.binary(min_size=head, max_size=head),
        keep_head=st.booleans(),
    )
    def one(sample: bytes, at: int, value: object, cut: int, other_head: bytes, keep_head: bool) -> None:
        nonlocal count
        count += 1
        body = sample[head:]
        at %= len(body) + 1
        new = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        target.check((sample[:head] if keep_head else other_head) + body[:at] + new + body[at + cut :])

    try:
        one()
    except Exception as error:
        return count, f"{_told(error)} {getattr(error, '__notes__', '')}"[:2_000]
    return count, ""


def _told(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.filename}:{place.lineno}: {error}"


def _guided(job: Job) -> tuple[int, str]:
    folder = Path("build/fuzz") / job.target
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-runs={job.runs}",
        f"-seed={job.seed}",
        f"-max_len={INPUT_BYTES_MAX}",
        "-rss_limit_mb=4096",
        "-timeout=20",
        f"-artifact_prefix={folder}/",
        "-verbosity=0",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "proof.fuzz.guided", job.target, *options],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        told = "\n".join(line for line in lines if not line.startswith(("INFO", "WARNING", "0x")))
        return job.runs, f"see {folder}: {told[:2_000]}"
    return job.runs, ""


def jobs(runs: int, first_seed: int) -> list[Job]:
    """Share `runs` inputs among targets and engines."""
    engines = dict(ENGINES)
    if not guided.available():
        print("no coverage-guided engine on this platform: its share goes to broken samples")
        engines["broken"] += engines.pop("guided")
    planned = [
        Job(engine, name, max(1, runs * target.share * part // 10_000), first_seed)
        for engine, part in sorted(engines.items())
        for name, target in TARGETS.items()
    ]
    return sorted(planned, key=lambda job: -job.runs)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="inputs, over all targets")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    record = Record(
        machine="fuzz",
        command=f"make fuzz RUNS={asked.runs} SEED={asked.seed}",
        build=BUILD,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        finished = list(pool.map(run_job, jobs(asked.runs, asked.seed)))
    for done in finished:
        state = f"{done.job.engine}:{done.job.target}"
        record.reach(state, done.runs)
        if done.failure:
            record.texts.append(f"{state}: {done.failure}")
    record.seconds = round(time.monotonic() - began, 1)
    total = sum(done.runs for done in finished)
    record.inject("F-20", total)
    record.figures = {
        "inputs": total,
        "failures": len(record.texts),
        "inputs per second": total / record.seconds,
    }
    record.write(RECORD)
    for name in TARGETS:
        ran = [done for done in finished if done.job.target == name]
        counts = ", ".join(f"{done.job.engine} {done.runs:,}" for done in ran)
        print(f"{name:14} {sum(done.runs for done in ran):>9,} inputs ({counts})")
    print(f"{total:,} inputs in {record.seconds:.0f} s, {len(record.texts)} promises broken")
    for text in record.texts:
        print(text, file=sys.stderr)
    return 1 if record.texts else 0


if __name__ == "__main__":
    sys.exit(main())
