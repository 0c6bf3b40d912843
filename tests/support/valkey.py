"""A private Redis-compatible server on a Unix socket, started and stopped by the test that uses it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.bus.client import Address
from shared.runtime.embedded import server_binary

START_TIMEOUT_S = 10.0


class ValkeyServer:
    """A server process with its own folder; may be killed and started again on the same data."""

    def __init__(self, folder: Path, binary: str | None = None) -> None:
        self.folder = folder
        self._binary = binary or server_binary()
        self.socket = folder / "redis.sock"
        self.address = Address(unix_path=str(self.socket))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            self._binary,
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self.folder),
        ]
        command += ["--appendonly", "yes", "--save", "", "--logfile", str(self.folder / "valkey.log")]
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "valkey.log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)

    def _answers(self) -> bool:
        import socket

        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16) == b"+PONG\r\n"
            except OSError:
                return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        import signal

        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        import signal

        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def running_valkey(*, survives_kills: bool = False, binary: str | None = None) -> Iterator[ValkeyServer]:
    """Start a server in a folder of its own and remove both afterwards.

    Args:
        survives_kills: Keep its append-only file in memory where the system has such a folder. A slow disk
            makes a server postpone writes that it has acknowledged (`appendfsync everysec`), and a test that
            kills it would then see losses that it is not about.
        binary: Another server than the embedded one.
    """
    memory = "/dev/shm" if survives_kills and Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="vk-", dir=memory))
    server = ValkeyServer(folder, binary)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
