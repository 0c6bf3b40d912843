"""`python -m julie.redis_password FILE`: make the password of Redis where there is none yet.

A fresh clone has no secret, and one that came with it would be no secret. An existing file is never touched:
it is the user's own, or that of an earlier start, which Redis and its data already know.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path

PASSWORD_BYTES = 32
READABLE = 0o444
"""Redis runs as another user than the rest; only containers that need the password see its folder."""


def ensure_password(path: Path) -> bool:
    """Write a random password to `path` unless something is there. Returns whether it did.

    Written beside and linked in place: nobody ever reads half of it, and of two makers one wins.

    Raises:
        OSError: If the folder cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size:
            return False
        path.unlink()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(PASSWORD_BYTES))
        file.flush()
        os.fchmod(file.fileno(), READABLE)
        os.fsync(file.fileno())
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    finally:
        beside.unlink()
    return True


def main() -> None:
    path = Path(sys.argv[1])
    try:
        made = ensure_password(path)
    except OSError as error:
        print(
            f"redis password: cannot write {path}: {error}; put a password into that file yourself",
            file=sys.stderr,
        )
        sys.exit(1)
    print(f"redis password: {'made' if made else 'found'} in {path}")


if __name__ == "__main__":
    main()
