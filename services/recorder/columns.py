"""Entries as columns, and columns as Parquet: all that needs Polars."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from services.recorder.files import ArchiveDamaged, Rows, shown

SCHEMA = pl.Schema(
    {"ts_ms": pl.Int64, "seq": pl.Int64, "id": pl.String, "kind": pl.String, "payload": pl.Binary}
)

INT_MAX = 2**63 - 1


def frame_of(rows: Rows) -> pl.DataFrame:
    """Return entries as the frame that is written."""
    # Ids that somebody gave by hand may exceed the columns; the column `id` has them as they are.
    kinds = {kind: kind.decode("utf-8", "backslashreplace") for kind in set(rows.kinds)}
    return pl.DataFrame(
        {
            "ts_ms": [min(entry_id[0], INT_MAX) for entry_id in rows.ids],
            "seq": [min(entry_id[1], INT_MAX) for entry_id in rows.ids],
            "id": [shown(entry_id) for entry_id in rows.ids],
            "kind": [kinds[kind] for kind in rows.kinds],
            "payload": rows.payloads,
        },
        schema=SCHEMA,
    )


def parquet_of(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=3)
    return buffer.getvalue()


def read(paths: Iterable[Path]) -> pl.DataFrame:
    """Return what files hold, in their order.

    Raises:
        FileNotFoundError: If one is not there.
        ArchiveDamaged: If one cannot be read.
    """
    return pl.concat([pl.DataFrame(schema=SCHEMA), *(_read(path) for path in paths)])


def last_payload(path: Path) -> bytes:
    """Return the payload of the last entry in a file; nothing else of it is read.

    Raises:
        FileNotFoundError: If it is not there.
        ArchiveDamaged: If it cannot be read.
    """
    try:
        lazy = pl.scan_parquet(path, hive_partitioning=False).select("payload").tail(1)
        payload: bytes = lazy.collect().item()
    except pl.exceptions.PolarsError as error:
        raise _damaged(path, error) from error
    return payload


def between(frame: pl.DataFrame, first_ms: int, last_ms: int) -> pl.DataFrame:
    """Return the rows that were received in a span of UTC milliseconds, both ends included."""
    return frame.filter(pl.col("ts_ms").is_between(first_ms, last_ms))


def missing_before(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `read_archive` that do not follow the row before them, with what is missing."""
    missing = (pl.col("seq").diff() - 1).alias("missing")
    return frame.with_columns(missing).filter(pl.col("missing") != 0).select("id", "missing")


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path.read_bytes(), hive_partitioning=False)
    except pl.exceptions.PolarsError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ArchiveDamaged:
    return ArchiveDamaged(f"{path} is not readable Parquet ({error}); restore it or move it away")
