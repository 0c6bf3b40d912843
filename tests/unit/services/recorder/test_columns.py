"""What is read of a file without reading all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.recorder.columns import frame_of, last_payload, parquet_of
from services.recorder.files import ArchiveDamaged, Rows


def test_the_last_payload_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "1-1_1-2.parquet"
    rows = Rows([(1, 1), (1, 2)], [b"quote", b"quote"], [b"first", b"\xff last"])
    path.write_bytes(parquet_of(frame_of(rows)))
    assert last_payload(path) == b"\xff last"


def test_a_file_that_is_damaged_or_gone_is_named(tmp_path: Path) -> None:
    path = tmp_path / "1-1_1-2.parquet"
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ArchiveDamaged, match=r"1-1_1-2\.parquet is not readable Parquet .* move it away"):
        last_payload(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        last_payload(path)
