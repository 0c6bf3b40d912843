"""Loading `functions.lua`, and reading its refusals."""

from __future__ import annotations

from importlib.resources import files

from redis.asyncio.connection import AbstractConnection

from shared.bus.client import COMMAND_TIMEOUT_S, ResponseError, read_reply
from shared.bus.port import BusRefused, Fenced, RolledBack

LIBRARY = files("shared.bus").joinpath("functions.lua").read_text()
VERSION = LIBRARY.split("local VERSION = '", 1)[1].split("'", 1)[0].encode()

_TRANSIENT = (
    "LOADING",
    "BUSY",
    "MISCONF",
    "OOM",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
)
"""Refusals of a server in trouble: nothing was done, and it may be over soon."""


async def load_functions(connection: AbstractConnection) -> None:
    """Make sure that the server has this build's functions.

    Raises:
        ResponseError: If the server refuses to load them.
    """
    try:
        await connection.send_command("FCALL", "julie_version", 0)
        if await read_reply(connection, within_s=COMMAND_TIMEOUT_S) == VERSION:
            return
    except ResponseError as error:
        if "unction not found" not in str(error):
            raise
    await connection.send_command("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    await read_reply(connection, within_s=COMMAND_TIMEOUT_S)


def refusal_of(error: ResponseError) -> Exception:
    """Return what a refusal means: final for this writer, or an error to try again after."""
    text = words_of(error)
    if "FENCED" in text:
        return Fenced(text)
    if "ROLLEDBACK" in text:
        return RolledBack(text)
    if "unction not found" in text or text.startswith(_TRANSIENT):
        return error
    return BusRefused(text)


def words_of(error: ResponseError) -> str:
    """Return the refusal as the server said it; the library takes the code off some of them."""
    code = error.status_code
    return f"{code} {error}" if code and not str(error).startswith(str(code)) else str(error)
