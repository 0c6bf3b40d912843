"""Logs: one line per event, key=value, to standard output. Secrets are replaced before a line is written."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from shared.runtime.secret import redact

VALUE_CHARS_MAX = 2_000
"""A longer value is cut: a hostile frame must not fill the disk."""


class LineFormatter(logging.Formatter):
    """`2026-11-22T18:00:00.123Z WARNING feed quote_refused symbol=MES why="off tick"`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        line = f"{at}Z {record.levelname} {self._process} {record.getMessage()}"
        fields = getattr(record, "fields", {})
        for name, value in fields.items():
            line += f" {name}={_shown(value)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return redact(line)


def _shown(value: object) -> str:
    text = str(value)[:VALUE_CHARS_MAX]
    if text and not any(c in text for c in ' "=\n\r\t'):
        return text
    return (
        '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r") + '"'
    )


class Log:
    """What shells log with: an event name and fields. `log.info("subscribed", symbol="MES")`."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: object) -> None:
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: object) -> None:
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, **fields: object) -> None:
        self._logger.exception(event, extra={"fields": fields})


def set_up_logs(process: str, level: str = "INFO") -> Log:
    """Send every log line of this process, libraries included, to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(LineFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Libraries log URLs and headers at INFO and DEBUG; ours to say, and redacted.
    for noisy in ("websockets", "aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return Log(logging.getLogger("julie"))
