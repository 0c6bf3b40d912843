"""What surrounds Julie fails: settings, credentials, Redis, the broker. Told, counted, survived, undone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.broker.projectx.enums import LOGIN_ADVICE, LoginErrorCode
from shared.wire import topics
from tests.support.buses import make_bus, run
from tests.support.eventually import TIME_FACTOR, eventually
from tests.support.fault_gateway import Fault
from tests.support.faulty_stack import FaultyStack, faulty_stack
from tests.support.hostile_server import HostileServer, hostile_server, http
from tests.support.operator_desk import Venue
from tests.support.stack import ROOT, Stack
from tests.support.valkey import ValkeyServer, running_valkey

ACCOUNT_ID = 1001
EXIT_SETTINGS = 78
AWAY_S = 5.0
"""How long Redis is gone: longer than every timeout of a read, shorter than a test's patience."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180 * TIME_FACTOR)]


# -- settings -----------------------------------------------------------------------------------------

SERVICES = ("heartbeat", "feed", "broker_sync", "execution", "guard", "recorder", "strategy", "simulator")
WRONG = {
    "JULIE_JULIE__ENV": "far-too-long",
    "JULIE_JULIE__SYMBOLS": '["mes"]',
    "JULIE_BROKER__REQUESTS_MAX_PER_60S": "100000",
    "JULIE_BROKER__USER_NAM": "me",
    "JULIE_REDIS__PORT": "6379",
    "JULIE_FEEED__STALE_AFTER_S": "5",
}
TOLD = (
    "julie.env", "not an exchange ticker", "less than or equal to 200", "did you mean 'user_name'",
    "redis.port: no such setting", "did you mean 'feed'",
)  # fmt: skip


@contextmanager
def nothing_started(**variables: str) -> Iterator[Stack]:
    with faulty_stack(up=False, **variables) as made:
        yield made.stack


def test_every_service_tells_all_that_is_wrong_with_the_settings_and_ends_with_78() -> None:
    """Said once and for good: supervisor and the container engine do not start it again."""
    with nothing_started(**WRONG) as stack:
        running = {
            name: subprocess.Popen(
                [sys.executable, "-m", f"services.{name}"],
                env=stack.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for name in SERVICES
        }  # fmt: skip
        for name, process in running.items():
            said, _ = process.communicate(timeout=30 * TIME_FACTOR)
            assert process.returncode == EXIT_SETTINGS, (name, said)
            assert [word for word in TOLD if word not in said] == [], said


def test_up_starts_nothing_with_wrong_settings() -> None:
    with nothing_started(**WRONG) as stack:
        done = stack.julie("up", "--detach", timeout_s=20 * TIME_FACTOR)
        assert done.returncode == EXIT_SETTINGS, done.stdout + done.stderr
        assert [word for word in TOLD if word not in done.stdout + done.stderr] == []
        assert stack.processes() == {}


def test_up_names_the_service_that_stopped_and_why_and_does_not_wait(tmp_path: Path) -> None:
    recording = tmp_path / "market.csv"
    recording.write_text("this,is,no\nmarket,at,all\n")
    with nothing_started() as stack:
        began = time.monotonic()
        done = stack.julie("up", "--detach", "--replay", str(recording), timeout_s=50 * TIME_FACTOR)
        assert done.returncode == EXIT_SETTINGS, done.stdout + done.stderr
        assert time.monotonic() - began < 40 * TIME_FACTOR
        assert "stopped  simulator: its settings cannot be used" in done.stdout
        assert "simulator.replay_file" in done.stdout


def test_up_says_at_once_that_the_broker_refuses_the_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("not-the-key-of-anybody")
    with nothing_started(JULIE_BROKER__API_KEY_FILE=str(key)) as stack:
        done = stack.julie("up", "--detach", timeout_s=50 * TIME_FACTOR)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "not ready  heartbeat: session: refused" in done.stdout
        assert "Settings > API" in done.stdout, "the remedy"
        assert "not-the-key-of-anybody" not in done.stdout + stack.logs(1_000)


# -- credentials --------------------------------------------------------------------------------------

CODES = [code for code in LoginErrorCode if code is not LoginErrorCode.SUCCESS]


def test_each_login_code_in_words_and_the_fatal_ones_once(tmp_path: Path) -> None:
    """A fatal refusal is not repeated until its remedy was tried: another credentials file."""
    key, new = tmp_path / "key", tmp_path / "new-key"

    async def scenario(server: ValkeyServer, hostile: HostileServer) -> None:
        bus = make_bus(server.address)
        fatal = [code for code in CODES if LOGIN_ADVICE[code].fatal]
        for number, code in enumerate([*fatal, *(c for c in CODES if c not in fatal)]):
            asked = len(hostile.requests)
            hostile.answer = http(json.dumps({"success": False, "errorCode": int(code)}).encode())
            new.write_text(f"key-number-{number:04}")
            new.replace(key)  # at once: a file that is being written changes twice
            advice = LOGIN_ADVICE[code]

            async def told(words: str = advice.sentence.rstrip(".")) -> bool:
                state = (await bus.hash_get(topics.SESSION_STATE)).get("state", b"")
                return words in json.loads(state or b'{"reason":""}')["reason"]

            await eventually(told, within_s=10, what=f"{code.name} in words")
            state = json.loads((await bus.hash_get(topics.SESSION_STATE))["state"])
            assert advice.remedy in state["reason"]
            if advice.fatal:
                assert state["health"] == "refused"
                await asyncio.sleep(0.5)  # many times the first pause between two tries
                assert len(hostile.requests) == asked + 1, f"{code.name} was asked again"
            else:
                await eventually(lambda a=asked: len(hostile.requests) >= a + 3, what="it is tried again")  # type: ignore[misc]

    async def whole() -> None:
        with running_valkey() as server:
            async with hostile_server() as hostile:
                hostile.answer = http(b'{"success":false,"errorCode":3}')
                key.write_text("the-first-key")
                variables = {
                    "JULIE_JULIE__DATA_DIR": str(tmp_path),
                    "JULIE_REDIS__URL": f"unix://{server.socket}",
                    "JULIE_BROKER__REST_URL": hostile.url,
                    "JULIE_BROKER__API_KEY_FILE": str(key),
                    "JULIE_HEARTBEAT__RETRY_FIRST_S": "0.05",
                    "JULIE_CONFIG": str(ROOT / "julie.toml"),
                }
                command = [sys.executable, "-m", "services.heartbeat"]
                with (tmp_path / "log").open("wb") as log:
                    process = await asyncio.create_subprocess_exec(
                        *command, env=os.environ | variables, cwd=ROOT, stdout=log
                    )
                try:
                    await eventually(lambda: hostile.requests, within_s=15, what="a login")
                    await scenario(server, hostile)
                finally:
                    process.terminate()
                    await process.wait()
        assert "key-number" not in (tmp_path / "log").read_text()

    run(whole)


# -- Redis and the broker, of one installation --------------------------------------------------------


class Surrounded(FaultyStack):
    """Attributes: server: the bus, which the test owns."""

    server: ValkeyServer
    said: str = ""

    def positions(self) -> str:
        return self.detail("broker_sync", "sync")

    def is_held_back(self) -> bool:
        """Whether the budget of the credential is paused, as the broker asked."""
        return bool(self.redis("KEYS", topics.pause("*")))

    def ask_the_account(self) -> None:
        """Make broker_sync read the account now: a push that it does not understand is a doubt."""
        self.gateway.slip_in("user", b"?\x1e")


@pytest.fixture(scope="module")
def surrounded() -> Iterator[Surrounded]:
    """Start everything while neither Redis nor the broker are there, then bring them, one after the other."""
    with running_valkey(survives_kills=True) as server:
        server.kill()
        variables = {
            "JULIE_REDIS__URL": f"unix://{server.socket}",
            "JULIE_HEARTBEAT__VALIDATE_INTERVAL_S": "2",
            "JULIE_HEARTBEAT__RETRY_MAX_S": "2",
            "JULIE_BROKER_SYNC__RECONCILE_SPACING_S": "0.2",
            "JULIE_BROKER_SYNC__RETRY_MAX_S": "1",
        }
        with faulty_stack(up=False, **variables) as made:
            surrounded = Surrounded(made.stack, made.gateway)
            surrounded.server = server
            surrounded.gateway.shut()
            command = [sys.executable, "-m", "julie", "up", "--detach"]
            up = subprocess.Popen(
                command, env=made.stack.environment, cwd=ROOT, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            try:
                for name in SERVICES:
                    surrounded.wait(
                        lambda n=name: _has(surrounded, n, "redis_away"), what=f"{name} waits for Redis"
                    )
                server.start()
                surrounded.wait(
                    lambda: "Check the network" in surrounded.detail("heartbeat", "session"),
                    what="heartbeat waits for the broker",
                )
                surrounded.gateway.open()
                surrounded.said, _ = up.communicate(timeout=60 * TIME_FACTOR)
            finally:
                if up.poll() is None:
                    up.terminate()
                    up.communicate()
            assert up.returncode == 0, surrounded.said + made.stack.logs()
            surrounded.wait(surrounded.trading, within_s=30, what="trading")
            yield surrounded


def _has(surrounded: Surrounded, process: str, word: str) -> bool:
    try:
        return word in surrounded.log(process)
    except OSError:
        return False


def test_services_waited_for_redis_and_the_broker_and_started_when_they_came(surrounded: Surrounded) -> None:
    for name in SERVICES:
        assert "ready" in surrounded.said
        assert surrounded.log(name).count("redis_away") == 1, "told once, not at every try"
        assert "start Redis, or correct redis.url" in surrounded.log(name)
    restarts = surrounded.stack.folder / "logs" / "supervisord.log"
    assert "exited:" not in restarts.read_text(), "nobody died of waiting" + surrounded.stack.logs(40)


@pytest.mark.proves("I-12")
def test_redis_away_for_a_while(surrounded: Surrounded) -> None:
    """Everything resumes; what the feed could not say is not lost; no order goes out twice."""
    pids = surrounded.pids()
    md = topics.md("MES")
    logins = len(surrounded.gateway.requests("/api/Auth/loginKey"))
    validated = len(surrounded.gateway.requests("/api/Auth/validate"))
    last = surrounded.entries(md)[-1][0]
    surrounded.server.kill()
    time.sleep(AWAY_S)  # the fault itself, not a wait for something
    surrounded.server.start()
    surrounded.wait(lambda: surrounded.entries(md)[-1][0] != last, what="market data")
    surrounded.wait(surrounded.trading, within_s=60, what="trading")
    assert surrounded.pids() == pids, "nobody died of it"
    seqs = [int(entry_id.partition("-")[2]) for entry_id, _, _ in surrounded.entries(md)]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "no number is missing"
    tags = Venue(surrounded.stack).tags()
    assert len(tags) == len(set(tags)), "no order twice"
    assert len(surrounded.gateway.requests("/api/Auth/loginKey")) == logins, "the session was kept"
    assert len(surrounded.gateway.requests("/api/Auth/validate")) > validated


POSITIONS = "/api/Position/searchOpen"
VALIDATE = "/api/Auth/validate"
HTML = b"<html><body>Bad gateway</body></html>"
FAULTS = {
    "500": (Fault(b'{"error":"oops"}', "500 Internal Server Error"), ["HTTP 500", "oops"]),
    "HTML": (Fault(HTML, "502 Bad Gateway", "Content-Type: text/html\r\n"), ["HTTP 502", "<html>"]),
    "HTML with 200": (Fault(HTML), ["could not be read", "<html>"]),
    "empty body": (Fault(b""), ["could not be read"]),
    "cut": (Fault(b'{"success":true,"positi'), ["could not be read"]),
    "null list": (
        Fault(b'{"success":true,"errorCode":0,"positions":null}'),
        ["null or missing", "not empty"],
    ),
    "no list": (Fault(b'{"success":true,"errorCode":0}'), ["null or missing"]),
    "unknown enum": (
        Fault(
            b'{"success":true,"errorCode":0,"positions":[{"id":1,"accountId":1001,"contractId":"CON.F.US.MES.Z26",'
            b'"type":8,"size":1,"averagePrice":5000}]}'
        ),
        ["8 has no meaning"],
    ),
    "refused": (Fault(b'{"success":false,"errorCode":1,"errorMessage":null}'), ["account", "code 1"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_answer_that_is_none_means_unknown_and_is_kept(surrounded: Surrounded, name: str) -> None:
    """The last picture stays, marked stale: never flat. The feed and the session do not notice."""
    fault, words = FAULTS[name]
    counted = surrounded.refused_count("broker_sync")
    surrounded.gateway.faults[POSITIONS] = fault
    try:
        surrounded.ask_the_account()
        said = surrounded.wait(
            lambda: surrounded.positions().startswith("stale: /api/Position") and surrounded.positions(),
            what="stale",
        )
        assert [word for word in words if word not in said] == [], said
        # The push that made it ask is one, the answer another.
        surrounded.wait(lambda: surrounded.refused_count("broker_sync") >= counted + 2, what="counted")
        assert fault.body is not None
        begin = fault.body.decode()[:20]
        surrounded.wait(
            lambda: [
                one
                for one in surrounded.refused("broker_sync")
                if one["origin"] == POSITIONS and one.get("raw", "").startswith(begin)
            ],
            what=f"the answer that begins with {begin!r} is kept",
        )
        assert surrounded.look()["session"]["health"] == "active"
    finally:
        surrounded.gateway.faults.pop(POSITIONS)
    surrounded.wait(lambda: surrounded.positions().startswith("in_sync"), what="in sync again")


def test_a_slow_broker_delays_nothing_but_its_answer(surrounded: Surrounded) -> None:
    surrounded.gateway.faults[POSITIONS] = Fault(delay_s=3.0)
    try:
        surrounded.ask_the_account()
        surrounded.wait(lambda: surrounded.gateway.requests(POSITIONS), what="asked")
        last = surrounded.entries(topics.md("MES"))[-1][0]
        surrounded.wait(lambda: surrounded.entries(topics.md("MES"))[-1][0] != last, what="market data")
        assert surrounded.look()["session"]["health"] == "active"
    finally:
        surrounded.gateway.faults.pop(POSITIONS)
    surrounded.wait(lambda: surrounded.positions().startswith("in_sync"), what="in sync")


@pytest.mark.proves("I-25")
def test_too_many_requests_holds_every_process_back_as_long_as_it_asks(surrounded: Surrounded) -> None:
    """One budget for the whole credential: only urgent requests go out before the time is over."""
    retry_after_s = 4.0
    surrounded.gateway.faults[POSITIONS] = Fault(
        b"", "429 Too Many Requests", f"Retry-After: {retry_after_s:.0f}\r\n"
    )
    asked = len(surrounded.gateway.requests(POSITIONS))
    surrounded.ask_the_account()
    surrounded.wait(lambda: len(surrounded.gateway.requests(POSITIONS)) > asked, what="asked")
    began = time.monotonic()
    # Who asked has to read the answer before it can tell the others.
    surrounded.wait(surrounded.is_held_back, what="held back")
    surrounded.gateway.faults.pop(POSITIONS)
    seen = len(surrounded.gateway.asked)
    surrounded.wait(lambda: len(surrounded.gateway.requests(POSITIONS)) > asked + 1, what="asked again")
    waited_s = time.monotonic() - began
    assert waited_s >= retry_after_s - 1.0, "Retry-After is kept"
    urgent = {"/api/Auth/validate", "/api/Order/cancel", "/api/Position/closeContract"}
    # When the time is over everybody may ask, in any order.
    over_s = began + retry_after_s - 1.0
    held = [one.path for one in surrounded.gateway.asked[seen:] if one.mono_s < over_s]
    history = {"/api/History/retrieveBars"}  # has a budget of its own
    before = set(held) - urgent - history
    assert before <= {"/api/Account/search", "/api/Order/v2/query", "/api/Order/search", "/api/Trade/search"}
    surrounded.wait(lambda: surrounded.positions().startswith("in_sync"), what="in sync")


def test_html_for_a_validation_keeps_the_session_and_is_kept_itself(surrounded: Surrounded) -> None:
    surrounded.gateway.faults[VALIDATE] = Fault(HTML, "503 Service Unavailable")
    try:
        surrounded.wait(lambda: surrounded.look()["session"]["health"] == "unknown", what="unknown")
        assert "HTTP 503" in surrounded.look()["session"]["reason"]
        kept = surrounded.wait(lambda: surrounded.refused("heartbeat"), what="kept")
        assert kept[0]["raw"] == HTML.decode()
    finally:
        surrounded.gateway.faults.pop(VALIDATE)
    surrounded.wait(surrounded.trading, within_s=30, what="trading")


def test_the_broker_gone_for_a_moment(surrounded: Surrounded) -> None:
    pids = surrounded.pids()
    surrounded.gateway.shut()
    surrounded.wait(lambda: surrounded.look()["session"]["health"] == "unknown", what="session unknown")
    surrounded.wait(lambda: surrounded.positions().startswith("stale"), what="positions stale")
    surrounded.gateway.open()
    surrounded.wait(surrounded.trading, within_s=60, what="trading")
    surrounded.wait(lambda: surrounded.positions().startswith("in_sync"), what="in sync")
    kinds = [kind for _, kind, _ in surrounded.entries(topics.md("MES"))]
    assert kinds.count("feed_gap") >= 1, "what was missed is marked"
    assert surrounded.pids() == pids
