"""`julie.redis_password`: made once, never replaced."""

from __future__ import annotations

from pathlib import Path

from julie.redis_password import ensure_password


def test_a_password_is_made_once_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "redis_password"
    assert ensure_password(path)
    made = path.read_text()
    assert len(made) >= 40
    assert path.stat().st_mode & 0o777 == 0o444
    assert not ensure_password(path)
    assert path.read_text() == made
    assert list(tmp_path.iterdir()) == [path]


def test_two_installations_have_two_passwords(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ensure_password(tmp_path / name)
    assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()


def test_a_password_of_ones_own_is_kept_and_an_empty_file_filled(tmp_path: Path) -> None:
    own, empty = tmp_path / "own", tmp_path / "empty"
    own.write_text("hunter22")
    empty.touch()
    assert not ensure_password(own)
    assert own.read_text() == "hunter22"
    assert ensure_password(empty)
    assert empty.read_text()
