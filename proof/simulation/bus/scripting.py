"""Server-side functions: the real `functions.lua`, run by the Lua that Redis uses (5.1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from lupa import lua51

from proof.simulation.bus.replies import ErrorReply, Reply, Status

FRAME = files("proof.simulation.bus").joinpath("scripting.lua").read_bytes()
Call = Callable[[list[bytes]], Reply]
"""Carries out one command that a function asks for; raises ErrorReply."""


class Function(NamedTuple):
    callback: Any
    writes: bool
    library: Library


class Library:
    """One loaded library. It has no state of its own, so servers share it."""

    def __init__(self, code: bytes) -> None:
        """Raises: ErrorReply: If the code cannot be loaded."""
        self._call: Call = _at_load_time
        runtime = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True, register_eval=False)
        header, _, body = code.partition(b"\n")
        self.name = header.partition(b"name=")[2].strip()
        if not header.startswith(b"#!lua") or not self.name:
            raise ErrorReply("ERR Missing library metadata")
        functions, self._run = runtime.execute(FRAME, self._called)
        try:
            runtime.execute(body)
        except lua51.LuaSyntaxError as error:
            raise ErrorReply(f"ERR Error compiling function: {error}") from error
        except lua51.LuaError as error:
            raise ErrorReply(f"ERR Error registering functions: {error}") from error
        self.functions = {
            name: Function(entry[1], not entry[2], self) for name, entry in sorted(functions.items())
        }

    def run(self, callback: Any, keys_count: int, words: list[bytes], call: Call) -> Reply:
        """Raises: ErrorReply: If the function answers or ends with an error."""
        self._call = call
        found = self._run(callback, keys_count, *words)
        if type(found) is not tuple:
            return _reply(found)
        mark, *rest = found
        if mark is True:
            return [_reply(item) for item in rest]
        if len(rest) == 2:
            return Status(rest[0])
        raise ErrorReply(rest[0].decode())

    def _called(self, *words: Any) -> Any:
        try:
            reply = self._call([word if type(word) is bytes else _word(word) for word in words])
        except ErrorReply as error:
            return None, error.text.encode()
        kind = type(reply)
        if kind is bytes or kind is int:
            return reply
        if kind is list:
            return True, *[self._item(item) for item in reply]
        return (None, bytes(reply), True) if kind is Status else False

    def _item(self, item: Reply) -> Any:
        """Lists in lists: what a function reads of them is text, so numbers and text are enough."""
        return item if type(item) in (bytes, int) else False


@lru_cache(maxsize=4)
def library(code: bytes) -> Library:
    return Library(code)


def _at_load_time(_words: list[bytes]) -> Reply:
    raise ErrorReply("ERR redis.call can only be called inside a script invocation")


def _word(word: Any) -> bytes:
    """Print a Lua number as Redis does when it becomes an argument."""
    if type(word) is int:
        return b"%d" % word
    if type(word) is float:
        return b"%.17g" % word
    raise ErrorReply("ERR Lua redis lib command arguments must be strings or integers")


def _reply(value: Any) -> Reply:
    if type(value) is bytes or type(value) is int:
        return value
    if type(value) is float:
        return int(value)
    if value is True:
        return 1
    if value is None or value is False:
        return None
    return _table(value)


def _table(table: Any) -> Reply:
    """A list, a status or an error inside of a list."""
    if (text := table[b"ok"]) is not None:
        return Status(text)
    if (text := table[b"err"]) is not None:
        return ErrorReply(text.decode())
    found: list[Reply] = []
    while (item := table[len(found) + 1]) is not None:
        found.append(_reply(item))
    return found
