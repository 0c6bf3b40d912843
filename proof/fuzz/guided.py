"""Coverage-guided fuzzing of one target: `python -m proof.fuzz.guided TARGET -runs=N -seed=S`.

libFuzzer takes the process over and ends it; its exit code says whether a promise was broken.
"""

from __future__ import annotations

import sys
from random import Random
from typing import Any


def _load() -> Any:
    """Return atheris, None where there is no build of it for the platform."""
    try:
        import atheris
    except ImportError:
        return None
    return atheris


def available() -> bool:
    return _load() is not None


def main() -> None:
    atheris = _load()
    assert atheris is not None, "atheris is not installed on this platform"
    with atheris.instrument_imports(include=["shared.broker", "shared.wire", "shared.runtime.config"]):
        from proof.fuzz.targets import TARGETS
    from proof.fuzz.mutate import broken_json

    name, options = sys.argv[1], sys.argv[2:]
    target = TARGETS[name]
    head = target.head_bytes

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = Random(seed)
        data = bytes(data)
        if not data or rng.random() < 0.05:
            data = rng.choice(target.samples)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, max_size))
        return (data[:head] + broken_json(data[head:], rng))[:max_size]

    atheris.Setup([sys.argv[0], *options], target.check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
