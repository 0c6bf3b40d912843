"""A process that has imported what every worker needs, and forks one whenever its host asks.

Importing is most of a worker's start, and several workers often start at once. The host forks its zygote in
its first moment, before it has a loop or a thread. Nothing ever runs in the zygote but what is written here:
each worker begins with what was imported, and with no line of a strategy behind it.

The zygote dies with its host, and the workers with the zygote. A host that has lost its zygote fails: it is
started anew, with another one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
import struct
import sys
from contextlib import suppress

from services.strategy import process
from shared.runtime.fork import call_me, die_with, end_with

ANSWER_S = 5.0
"""Forking takes milliseconds; a zygote that has not answered by then is stopped or gone."""

_REQUEST = struct.Struct("<b")
"""Priority of the worker; page and pipe travel along."""
_REPORT = struct.Struct("<qq")
"""A worker's pid, and how it ended, or `_BORN`."""
_BORN = 1 << 32


class ZygoteGone(Exception):
    """The zygote does not answer: its host must be started again."""


class Zygote:
    """The host's end."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection
        self._rest = b""
        self._ended: dict[int, int] = {}
        self._lost = False

    @classmethod
    def fork(cls) -> Zygote:
        """Fork it off this process, which has one thread and no event loop yet.

        Raises:
            RuntimeError: If there is a loop: uvloop makes pipes of its own in each child of one, in the place
                of what is handed over.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("the zygote is forked before there is an event loop")
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            end_with(lambda: _serve(theirs, parent))
        theirs.close()
        return cls(pid, ours)

    def start(self, *, nice: int, page: int, life: int) -> int:
        """Return the pid of a new worker.

        Args:
            nice: Its priority.
            page: Descriptor of its progress page.
            life: Read end of the pipe that tells it its spec, and by its end that the host is gone.

        Raises:
            ZygoteGone: If none was born.
        """
        try:
            self._connection.settimeout(ANSWER_S)
            socket.send_fds(self._connection, [_REQUEST.pack(nice)], [page, life])
            while not self._lost:
                pid = self._take(self._connection.recv(4_096))
                if pid:
                    return pid
        except OSError as error:
            raise ZygoteGone(f"the zygote (pid {self.pid}) starts no worker: {error}") from error
        raise ZygoteGone(f"the zygote (pid {self.pid}) is gone")

    def ended(self, pid: int) -> int | None:
        """Return how a worker ended, None while it runs; negative is the signal that ended it."""
        self._connection.settimeout(0.0)
        with suppress(BlockingIOError):
            while not self._lost:
                try:
                    self._take(self._connection.recv(4_096))
                except ConnectionError:
                    self._lost = True
        # What it can tell no more: the kernel has killed them with it.
        return self._ended.get(pid, -signal.SIGKILL if self._lost else None)

    def forget(self, pid: int) -> None:
        """Drop how a worker ended; nobody will ask any more."""
        self._ended.pop(pid, None)

    def _take(self, data: bytes) -> int:
        """Note what it says; return the pid of who was born, else 0."""
        self._lost = not data
        self._rest += data
        born = 0
        while len(self._rest) >= _REPORT.size:
            pid, code = _REPORT.unpack_from(self._rest)
            self._rest = self._rest[_REPORT.size :]
            if code == _BORN:
                born = pid
                self._ended.pop(pid, None)  # of an earlier one with this pid
            else:
                self._ended[pid] = code
        return born

    def close(self) -> None:
        """End it, and with it its workers."""
        self._connection.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(host: socket.socket, parent: int) -> None:
    """Start workers and tell how they end, until the host is gone."""
    gc.freeze()  # no child looks for garbage among what was imported: the pages stay shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the host's to answer
    die_with(parent)
    call_me("zygote")
    while os.open(os.devnull, os.O_RDWR) <= 2:
        pass  # where the host has no standard stream, what is sent to us must not take its number
    os.closerange(3, host.fileno())
    os.closerange(host.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    woken, waker = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    with suppress(ConnectionError):
        while True:
            ready, _, _ = select.select([host.fileno(), woken], [], [])
            if woken in ready:
                os.read(woken, 4_096)
                _tell_ends(host)
            if host.fileno() in ready and not _start(host, [woken, waker]):
                return


def _start(host: socket.socket, ours: list[int]) -> bool:
    """Start the worker that is asked for; return False when the host is gone."""
    request, descriptors, _, _ = socket.recv_fds(host, _REQUEST.size, 2)
    if not request:
        return False
    (nice,) = _REQUEST.unpack(request)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        page, life = descriptors
        end_with(lambda: _become_worker(nice, page, life, parent=parent, foreign=[host.detach(), *ours]))
    for descriptor in descriptors:
        os.close(descriptor)
    host.sendall(_REPORT.pack(pid, _BORN))
    return True


def _tell_ends(host: socket.socket) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            host.sendall(_REPORT.pack(pid, os.waitstatus_to_exitcode(status)))


def _become_worker(nice: int, page: int, life: int, *, parent: int, foreign: list[int]) -> None:
    # First of all, so that many workers starting at once do not disturb those who keep the account safe.
    os.nice(nice)
    die_with(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor in foreign:
        os.close(descriptor)
    os.dup2(life, 0)
    os.close(life)
    process.main(page)
