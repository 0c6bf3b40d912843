"""The system in containers: started with one command in an empty clone, looked at, frozen, killed, scaled.

The tests of the running stack stand in the order of a day and share it; each leaves it healthy.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import Compose, composed, empty_clone, run, until, why_no_engine

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

log = logging.getLogger(__name__)
"""How long things took: `--log-cli-level=INFO` shows it."""

PROCESSES = ("simulator", "heartbeat", "feed", "broker_sync", "execution", "guard", "strategy", "recorder")
SERVICES = {"secrets", "redis", *PROCESSES}
INSTANCES = tuple(f"breakout-{n}" for n in range(6))
MOVED_WITHIN_S = 10.0
UNHEALTHY_WITHIN_S = 20.0
ORDERS = "orders:{1001}"
PASSWORD_FILE = "/run/secrets/redis_password"


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    if why := why_no_engine():
        pytest.skip(why)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """The compose file alone, nothing started."""
    return Compose(empty_clone(tmp_path_factory.mktemp("read")), "julie-test-read")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    instances = [
        {"id": name, "class": "strategies.breakout:Breakout", "symbols": ["MES" if n % 2 else "MNQ"]}
        for n, name in enumerate(INSTANCES)
    ]
    with composed(
        tmp_path_factory.mktemp("clone"),
        f"julie-test-{os.getpid()}",
        JULIE_STRATEGY__INSTANCES=json.dumps(instances),
    ) as compose:
        yield compose


def orders(stack: Compose) -> int:
    return stack.entries(ORDERS)


def all_healthy(stack: Compose) -> bool:
    containers = [c for service in ("redis", *PROCESSES) for c in stack.containers(service)]
    return len(containers) >= 1 + len(PROCESSES) and all(stack.health(c) == "healthy" for c in containers)


def trades_on(stack: Compose, since: int, *, within_s: float = 90.0) -> None:
    """A trade every few simulated minutes, ten times as fast as a market."""
    until(lambda: orders(stack) > since, within_s=within_s, what=f"more in {ORDERS} than {since} entries")


def process_inside(stack: Compose, container: str, module: str) -> str:
    """Return the pid, as the container counts, of the service itself: the child of its warm parent."""
    script = (
        "import glob,sys\n"
        "for path in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "    words = open(path).read().split('\\0')\n"
        "    if words[1:4] == ['-m', 'shared.runtime.warm', sys.argv[1]]:\n"
        "        print(path.split('/')[2])"
    )
    parent, child = sorted(map(int, stack.inside(container, "python", "-c", script, module).split()))
    assert parent < child
    return str(child)


# The file


def test_every_service_is_confined(project: Compose) -> None:
    services = project.configuration()["services"]
    assert set(services) == SERVICES
    for name, service in services.items():
        assert service["user"] not in ("", "0", "root"), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert 0 < service["pids_limit"] <= 512, name
        assert 0 < int(service["mem_limit"]) <= 2 << 30, name
        assert not service.get("privileged"), name
        assert not service.get("devices"), name
        assert not service.get("ports"), name
        assert service.get("network_mode", "") in ("", "none"), name
        assert service.get("pid") is None and service.get("ipc") is None, name
        for mount in service.get("volumes", []):
            assert mount["type"] == "volume", (name, mount)
            writable = mount["target"] == "/data" or name == "secrets"
            assert mount.get("read_only", False) is not writable, (name, mount)


def test_every_service_is_judged_by_progress(project: Compose) -> None:
    services = project.configuration()["services"]
    for name in PROCESSES:
        assert services[name]["healthcheck"]["test"] == ["CMD", "python", "-m", "julie.health", name]
    assert "SET health:redis" in services["redis"]["healthcheck"]["test"][1], (
        "a PING would not show a full disk"
    )


@pytest.mark.proves("I-27")
def test_only_heartbeat_sees_the_brokers_key_and_strategies_see_nothing_but_the_bus(project: Compose) -> None:
    found = project.configuration()
    services = found["services"]
    holders = {n for n, s in services.items() if any(m["target"] == "/run/broker" for m in s["volumes"])}
    assert holders == {"heartbeat"}
    assert found["networks"]["bus"]["internal"] is True
    for name in ("redis", "strategy", "recorder"):
        assert set(services[name]["networks"]) == {"bus"}, name


def test_a_real_broker_is_a_matter_of_settings(project: Compose, tmp_path: Path) -> None:
    """The example at the top of the compose file, as it stands there."""
    text = (project.folder / "docker-compose.yml").read_text()
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#   ")]
    settings = [line.split("  ")[0] for line in lines if line.startswith(("JULIE_", "COMPOSE_"))]
    settings = [s.replace("ACCOUNT_ID=...", "ACCOUNT_ID=4711").replace("=...", "=somebody") for s in settings]
    file = tmp_path / "topstepx.env"
    file.write_text("\n".join(settings) + "\n")
    del project.environment["COMPOSE_PROJECT_NAME"]
    try:
        found = project.configuration("--env-file", str(file))
    finally:
        project.environment["COMPOSE_PROJECT_NAME"] = project.project
    assert found["name"] == "julie-tsx"
    assert set(found["services"]) == SERVICES - {"simulator"}
    for name in ("heartbeat", "feed", "broker_sync", "execution"):
        environment = found["services"][name]["environment"]
        assert environment["JULIE_BROKER__REST_URL"] == "https://api.topstepx.com"
        assert environment["JULIE_BROKER__HUB_URL"] == "https://rtc.topstepx.com/hubs"
        assert environment["JULIE_JULIE__MARKET_CLOCK"] == "system"
        assert environment["JULIE_JULIE__ACCOUNT_ID"] == "4711"
    heartbeat = found["services"]["heartbeat"]
    assert heartbeat["environment"]["JULIE_BROKER__API_KEY_FILE"] == "/run/broker/api_key"
    (key,) = (m for m in heartbeat["volumes"] if m["target"] == "/run/broker")
    assert (key["type"], key["read_only"]) == ("bind", True)
    assert key["source"] == str(project.folder / "secrets" / "broker")


# The running stack


def test_one_command_in_an_empty_clone_starts_everything(stack: Compose) -> None:
    until(lambda: all_healthy(stack), within_s=90, what="every container healthy")
    (secrets,) = stack.containers("secrets", running=False)
    state = stack.inspect(secrets)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)

    def trading() -> bool:
        # A container is healthy as soon as it works; heartbeat lets trade once it has seen that all do.
        report = json.loads(stack.inside(stack.only("heartbeat"), "julie", "status", "--json"))
        return bool(report["session"]["health"] == report["trading"]["state"] == "active")

    until(trading, within_s=30, what="an active session, and trading")


def test_it_trades(stack: Compose) -> None:
    trades_on(stack, orders(stack))


def test_redis_cli_shows_readable_entries_without_a_password_typed(stack: Compose) -> None:
    said = stack("exec", "-T", "redis", "redis-cli", "XREVRANGE", "md:{MES}", "+", "-", "COUNT", "3")
    lines = said.splitlines()
    assert len(lines) == 9
    for entry, kind, value in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert entry.count("-") == 1
        assert json.loads(value)["type"] == kind
        assert json.loads(value)["symbol"] == "MES"


@pytest.mark.proves("I-28")
def test_redis_refuses_whoever_brings_no_password(stack: Compose) -> None:
    script = "for c in /usr/local/bin/redis-cli /usr/bin/redis-cli; do [ -x $c ] && exec $c PING; done"
    assert "NOAUTH" in stack.inside(stack.only("redis"), "sh", "-c", script)


def test_a_password_of_ones_own_is_used(stack: Compose, tmp_path: Path) -> None:
    """Even one that a configuration file or a shell would read as something else."""
    password = """hunter22 "b\\c" #d 'e $f"""
    (tmp_path / "redis_password").write_text(password + "\n")
    tmp_path.chmod(0o755)
    images = {name: stack.environment[name] for name in ("JULIE_IMAGE", "JULIE_REDIS_IMAGE")}
    other = Compose(stack.folder, stack.project + "-own", JULIE_SECRETS=str(tmp_path), **images)
    try:
        other("up", "--detach", "redis")
        until(lambda: other.redis("PING").strip() == "PONG", within_s=20, what="an answer of the other Redis")
        assert other.redis("CONFIG", "GET", "requirepass").splitlines() == ["requirepass", password]
        assert (tmp_path / "redis_password").read_text() == password + "\n"
    finally:
        other("down", "--volumes")


def test_every_container_is_confined(stack: Compose) -> None:
    for service in ("redis", *PROCESSES):
        container = stack.only(service)
        found = stack.inspect(container)
        assert not found["HostConfig"]["PortBindings"], service
        assert not any(found["NetworkSettings"]["Ports"].values()), service
        assert found["HostConfig"]["NetworkMode"] != "host", service
        status = stack.inside(container, "cat", "/proc/1/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert 0 not in {int(word) for word in fields["Uid"].split()}, service
        assert 0 not in {int(word) for word in fields["Gid"].split()}, service
        for capabilities in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
            assert int(fields[capabilities], 16) == 0, (service, capabilities)
        assert fields["NoNewPrivs"] == "1", service
        tried = stack.inside(
            container,
            "sh",
            "-c",
            "for f in /x /app/x /etc/x /usr/local/x /run/x /run/secrets/x; do "
            "if touch $f; then echo wrote $f; fi; done 2>/dev/null; "
            "ls /var/run/docker.sock /run/docker.sock 2>/dev/null; true",
        )
        assert tried == "", service


@pytest.mark.proves("I-27")
def test_the_password_is_nowhere_but_in_its_file(stack: Compose) -> None:
    password = stack.inside(stack.only("redis"), "cat", PASSWORD_FILE).strip()
    assert len(password) >= 40
    for container in stack.containers(running=False):
        described = json.dumps(stack.inspect(container))
        service = stack.inspect(container)["Config"]["Labels"]["com.docker.compose.service"]
        assert password not in described, f"docker inspect of {service}"
        assert password not in run(["docker", "logs", container]), f"log of {service}"
    for container in stack.containers():
        assert password not in run(["docker", "top", container, "-eo", "pid,args"])
        # Of every process, as its own user sees it; one that ends meanwhile is none.
        everything = stack.inside(
            container,
            "sh",
            "-c",
            "for p in /proc/[0-9]*; do cat $p/cmdline $p/environ 2>/dev/null; done; true",
        )
        assert "JULIE_" in everything or "redis-server" in everything
        assert password not in everything
    for image in (stack.environment["JULIE_IMAGE"], stack.environment["JULIE_REDIS_IMAGE"]):
        assert password not in run(["docker", "history", "--no-trunc", image])
    status = stack.inside(stack.only("heartbeat"), "julie", "status", "--json")
    assert password not in status


@pytest.mark.proves("I-20")
def test_a_frozen_process_becomes_unhealthy_and_recovers(stack: Compose) -> None:
    """Frozen, it still is there, its sockets are open, and a port would still accept connections."""
    container = stack.only("feed")
    pid = process_inside(stack, container, "services.feed")
    frozen_at = time.monotonic()
    stack.inside(container, "python", "-c", f"import os, signal; os.kill({pid}, signal.SIGSTOP)")
    try:
        until(
            lambda: stack.health(container) == "unhealthy",
            within_s=UNHEALTHY_WITHIN_S,
            what="feed unhealthy",
        )
        log.info("unhealthy after %.1f s", time.monotonic() - frozen_at)
        state = stack.inside(container, "cat", f"/proc/{pid}/stat")
        assert state.rpartition(")")[2].split()[0] == "T"
        said = stack.inspect(container)["State"]["Health"]["Log"][-1]["Output"]
        assert said.startswith("feed: dead"), said
        others = [stack.health(stack.only(s)) for s in ("heartbeat", "execution", "recorder")]
        assert others == ["healthy"] * 3
    finally:
        stack.inside(container, "python", "-c", f"import os, signal; os.kill({pid}, signal.SIGCONT)")
    until(lambda: all_healthy(stack), within_s=40, what="every container healthy again")


def placement(stack: Compose) -> dict[str, str]:
    """Instance -> container, {} unless leases and beats agree and every worker runs."""
    leases = stack.leases(INSTANCES)
    beats = stack.beats([f"strategy:{name}" for name in INSTANCES])
    for name, holder in leases.items():
        beat = beats[f"strategy:{name}"]
        if beat.get("host") != holder or beat["detail"].get("state") != "running":
            return {}
    return leases if len(leases) == len(INSTANCES) else {}


def workers(stack: Compose, containers: Iterable[str]) -> list[int]:
    """Return how many workers run in each."""
    tops = [run(["docker", "top", container, "-eo", "pid,comm"]) for container in containers]
    return [sum(top.count(name) for name in INSTANCES) for top in tops]


def test_instances_spread_over_three_containers_and_leave_a_killed_one(stack: Compose) -> None:
    stack("up", "--detach", "--scale", "strategy=3")

    def spread() -> dict[str, str]:
        placed = placement(stack)
        return placed if sorted(Counter(placed.values()).values()) == [2, 2, 2] else {}

    placed = until(spread, within_s=60, what="two instances in each of three containers")
    containers = {c[:12]: c for c in stack.containers("strategy")}
    assert set(placed.values()) == set(containers)
    until(lambda: workers(stack, containers.values()) == [2, 2, 2], within_s=20, what="each in exactly one")
    until(lambda: all_healthy(stack), within_s=40, what="each host healthy by its own verdict")

    victim = placed[INSTANCES[0]]
    epochs = stack.epochs(INSTANCES)
    run(["docker", "kill", containers[victim]])
    killed_at = time.monotonic()

    def moved() -> dict[str, str]:
        now = placement(stack)
        return now if now and victim not in now.values() else {}

    now = until(moved, within_s=MOVED_WITHIN_S, what="the killed container's instances in the other two")
    log.info("moved after %.1f s", time.monotonic() - killed_at)
    assert sorted(Counter(now.values()).values()) == [3, 3]
    left = [containers[c] for c in set(now.values())]
    until(lambda: workers(stack, left) == [3, 3], within_s=20, what="each in exactly one")
    for name, epoch in stack.epochs(INSTANCES).items():
        assert (epoch > epochs[name]) is (placed[name] == victim), (
            f"{name}: a later epoch fences the dead one"
        )
        if placed[name] != victim:
            assert now[name] == placed[name], "nobody else had to move"
    stack("up", "--detach", "--scale", "strategy=1")
    until(lambda: placement(stack) and len(set(placement(stack).values())) == 1, within_s=30, what="one host")


def reborn(stack: Compose, process: str, old: dict[str, Any]) -> dict[str, Any]:
    """Wait for a later life of `process` than `old`, ready for work."""

    def ready() -> dict[str, Any]:
        beat = stack.beat(process)
        return beat if beat["started_at_ns"] > old["started_at_ns"] and beat["ready"] else {}

    found: dict[str, Any] = until(ready, within_s=40, what=f"{process} ready again")
    return found


def test_a_process_that_dies_comes_back_by_itself(stack: Compose) -> None:
    container, old = stack.only("feed"), stack.beat("feed")
    pid = process_inside(stack, container, "services.feed")
    kill = f"import os, signal; os.kill({pid}, signal.SIGKILL)"
    # Detached: the container, and with it the one that killed, ends before there is an answer.
    run(["docker", "exec", "--detach", container, "python", "-c", kill])
    assert reborn(stack, "feed", old)["host"] == container[:12]


@pytest.mark.proves("I-18")
def test_it_survives_a_killed_execution(stack: Compose) -> None:
    before = orders(stack)
    old = stack.beat("execution")
    stack("kill", "--signal", "KILL", "execution")
    assert not stack.containers("execution")
    stack("start", "execution")
    assert reborn(stack, "execution", old)["host"] == stack.only("execution")[:12]
    trades_on(stack, before + 1)
    assert "execution-1001.sqlite" in stack.inside(stack.only("execution"), "ls", "/data")


def test_it_survives_a_restart_of_redis(stack: Compose) -> None:
    before, orders_before = stack.entries("md:{MES}"), orders(stack)
    password = stack.redis("CONFIG", "GET", "requirepass")
    stack("restart", "redis")
    until(lambda: stack.entries("md:{MES}") > before, within_s=30, what="market data goes on")
    assert orders(stack) >= orders_before, "the append-only file brought everything back"
    assert stack.redis("CONFIG", "GET", "requirepass") == password
    trades_on(stack, orders(stack))
    until(lambda: all_healthy(stack), within_s=40, what="every container healthy again")


def test_it_stops_cleanly(stack: Compose) -> None:
    began = time.monotonic()
    stack("stop")
    log.info("stopped after %.1f s", time.monotonic() - began)
    for service in ("redis", *PROCESSES):
        for container in stack.containers(service, running=False):
            state = stack.inspect(container)["State"]
            assert state["ExitCode"] == 0, (service, run(["docker", "logs", "--tail", "20", container]))
