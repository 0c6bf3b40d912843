"""Which code this is: a hash of the installed source, so that two builds never look alike.

A version number stays the same while files change; processes of different builds must notice each other.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_PACKAGES = ("shared", "services", "strategies", "julie")


@cache
def build_id() -> str:
    """Return the first 12 hex digits of the hash over all Python and Lua files."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in {".py", ".lua"}:
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


BUILD = build_id()
