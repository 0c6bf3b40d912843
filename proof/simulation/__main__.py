"""`python -m proof.simulation`: play seeds, or one with its trace; see `make sim`."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from proof.simulation import coverage, mutations, runs
from proof.simulation.runs import Outcome

RECORD = Path("build/proof/simulation.json")
DIGEST_EVERY = 50
SHOWN_MAX = 3


def main() -> int:
    options = _options()
    if options.digests:
        return _print_digests([int(one) for one in options.digests.split(",")])
    if options.shrink is not None:
        return _shrink(options.shrink, options.mutation)
    if options.seed is not None:
        return _one(options.seed, log=options.log, mutation=options.mutation)
    began = time.monotonic()
    outcome = runs.empty()
    outcome.record.started = datetime.now(UTC).isoformat(timespec="seconds")
    outcome.record.build = runs.commit()
    outcome.record.command = "python -m proof.simulation " + " ".join(sys.argv[1:])
    well = _play(options, outcome) if options.seeds else True
    if options.mutants:
        well &= _mutants(options, outcome)
    well &= _same_traces(options, outcome)
    well &= coverage.complete(outcome)
    coverage.count_faults(outcome.record)
    outcome.record.seconds = round(time.monotonic() - began, 1)
    outcome.record.write(RECORD)
    print(f"written: {RECORD}")
    return 0 if well else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proof.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many seeds are played")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--until", type=float, help="begin no further seeds after so many seconds")
    parser.add_argument(
        "--shrink", type=int, metavar="SEED", help="find the least that still fails in this seed"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--mutants", action="store_true", help="plant every bug and see it caught")
    parser.add_argument("--seed", type=int, help="play this one and show its last events")
    parser.add_argument("--log", action="store_true", help="with --seed: show every event")
    parser.add_argument(
        "--mutation", choices=sorted(mutations.BUGS), help="with --seed or --shrink: this bug"
    )
    parser.add_argument("--digests", help=argparse.SUPPRESS)
    return parser.parse_args()


def _play(options: argparse.Namespace, outcome: Outcome) -> bool:
    first = options.first
    seeds = list(dict.fromkeys([*runs.regression_seeds(), *range(first, first + options.seeds)]))
    began = said = time.monotonic()
    for part in runs.spread(seeds, processes=options.processes):
        outcome.record.add(part.record)
        outcome.failed.update(part.failed)
        for seed, violations in part.failed.items():
            print(f"seed {seed} failed: {violations}", flush=True)
        outcome.seeds += part.seeds
        outcome.virtual_s += part.virtual_s
        outcome.steps += part.steps
        outcome.kills += part.kills
        if options.until is not None and time.monotonic() - began > options.until:
            print(f"the time is over: {outcome.seeds} of {len(seeds)} seeds were played")
            break
        if time.monotonic() - said > 10:
            said = time.monotonic()
            rate = outcome.seeds / (said - began)
            print(f"{outcome.seeds} seeds, {rate:.1f} a second, {len(outcome.failed)} failed", flush=True)
    took_s = time.monotonic() - began
    figures = outcome.record.figures
    figures["seeds"] = outcome.seeds
    figures["seeds_per_s"] = round(outcome.seeds / took_s, 2)
    figures["virtual_s"] = round(outcome.virtual_s)
    figures["kills"] = outcome.kills
    checks = sum(outcome.record.checks.values())
    print(
        f"{outcome.seeds} seeds in {took_s:.0f} s ({outcome.seeds / took_s:.1f} a second), "
        f"{outcome.virtual_s / 3600:.1f} virtual hours, {outcome.kills} kills, {checks} checks, "
        f"{len(outcome.failed)} seeds failed"
    )
    for seed in sorted(outcome.failed)[:SHOWN_MAX]:
        _one(seed, log=False, mutation=None)
    for seed in sorted(outcome.failed)[SHOWN_MAX:50]:
        print(f"seed {seed}: {outcome.failed[seed]}")
    return not outcome.failed


def _mutants(options: argparse.Namespace, outcome: Outcome) -> bool:
    """See each planted bug caught; the seed that caught it last is played first, then all others."""
    well = True
    seeds = range(options.first, options.first + mutations.SEEDS_MAX)
    hunts = {
        name: list(dict.fromkeys([mutations.CAUGHT[name], *seeds]))[: mutations.SEEDS_MAX]
        for name in sorted(mutations.BUGS)
    }
    for name, caught in runs.mutants(hunts, processes=options.processes):
        if caught.failed:
            ((seed, invariants),) = caught.failed.items()
            print(f"caught: {name}: by {', '.join(sorted(invariants))} in seed {seed}", end="")
            print("" if caught.seeds == 1 else f", after {caught.seeds} seeds: note the new one", flush=True)
            outcome.record.reach(f"planted bug caught: {name}")
            outcome.record.figures[f"caught in seed: {name}"] = seed
        else:
            well = False
            print(f"NOT CAUGHT in {caught.seeds} seeds: {name}", flush=True)
    outcome.record.figures["planted bugs"] = len(hunts)
    return well


def _same_traces(options: argparse.Namespace, outcome: Outcome) -> bool:
    """Play some seeds twice in fresh processes, under different hash seeds."""
    seeds = range(options.first, options.first + options.seeds, DIGEST_EVERY)[:20]
    if not seeds:
        return True
    one, other = runs.digests(seeds, "1"), runs.digests(seeds, "2")
    for seed, first, second in zip(seeds, one, other, strict=True):
        outcome.record.check("I-22", first == second, f"seed {seed}: traces {first} and {second}")
    same = one == other
    print(f"traces of {len(seeds)} seeds under two hash seeds: {'the same' if same else 'DIFFERENT'}")
    return same


def _print_digests(seeds: list[int]) -> int:
    from proof.simulation import processes, world

    processes.install()
    for seed in seeds:
        print(world.play(seed, tracing=True).digest)
    return 0


def _shrink(seed: int, mutation: str | None) -> int:
    """Switch off what the failure of a seed does not need."""
    from proof.simulation import processes, shrink, swarm

    processes.install()
    plan = swarm.draw(seed)
    fails = shrink.failing(plan, mutation)
    if not fails:
        print(f"seed {seed} does not fail")
        return 0
    least = shrink.least(plan, lambda one: bool(fails & shrink.failing(one, mutation)))
    print(
        f"seed {seed} fails by {', '.join(sorted(fails))} in {least.faults_s:.1f} s with no more than this:"
    )
    for line in shrink.words(least):
        print(f"  {line}")
    return 1


def _one(seed: int, *, log: bool, mutation: str | None) -> int:
    from proof.simulation import processes, world

    processes.install()
    with mutations.planted(mutation):
        played = world.play(seed, tracing=True, log=log)
    record = played.judge.record
    print(f"--- seed {seed}, commit {runs.commit()}, faults: {', '.join(played.plan.kinds) or 'none'}")
    if not log:
        for line in played.events:
            print(line[:300])
    for text in record.texts:
        print(f"VIOLATED {text}")
    print(f"trace {played.digest}; again: python -m proof.simulation --seed {seed} --log")
    return 1 if record.violations else 0


if __name__ == "__main__":
    sys.exit(main())
