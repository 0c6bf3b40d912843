"""`python -m bench [NAME ...]`: run all benchmarks, or the named ones, and print one table."""

from __future__ import annotations

import sys

from rich.console import Console

from bench import bus, growth, isolation, market, orders
from bench.figure import show
from bench.workers import zygote

BENCHMARKS = {
    "hop": bus.hop,
    "throughput": bus.throughput,
    "chain": market.chain,
    "tick-to-order": orders.tick_to_order,
    "isolation": isolation.isolation,
    "growth": growth.growth,
}


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    console = Console()
    if unknown:
        console.print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
        return 2
    zygote()
    figures = []
    for name in names:
        console.print(f"measuring {name} ...")
        figures += BENCHMARKS[name]()
    show(figures, console)
    return 0 if all(figure.reached is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
