"""Keys, channels, leases and the shared budget on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from shared.bus.bus import RedisBus
from shared.bus.port import BusRefused, Lease
from shared.wire import topics
from tests.support.bus_servers import BusServer, running_bus_server
from tests.support.buses import make_bus, run
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

LEASE = topics.lease(1001, "a")
ACCOUNT = topics.account(1001)


@pytest.fixture(params=["valkey", "model"])
def server(request: pytest.FixtureRequest) -> Iterator[BusServer]:
    with running_bus_server(request.param) as running:
        yield running


async def ready_bus(server: BusServer) -> RedisBus:
    bus = make_bus(server.address)
    await bus.ready()
    return bus


def test_keys_and_their_end(server: BusServer) -> None:
    async def scenario() -> None:
        bus = await ready_bus(server)
        assert await bus.get("beat:x") is None
        await bus.set("beat:x", b"\x00\xff")
        assert await bus.get("beat:x") == b"\x00\xff"
        await bus.set("beat:y", b"short", expire_s=0.02)

        async def gone() -> bool:
            return await bus.get("beat:y") is None

        await eventually(gone)
        assert await bus.keys("beat:*") == ["beat:x"]
        await bus.delete("beat:x")
        assert await bus.keys("*") == []

    run(scenario)


def test_hash_is_replaced_as_a_whole(server: BusServer) -> None:
    """A reader sees the old picture or the new one, never fields of both and never none."""

    async def scenario() -> None:
        bus, other = await ready_bus(server), await ready_bus(server)
        await bus.hash_set(ACCOUNT, {"n": b"0", "a": b"0"})
        stop = asyncio.Event()

        async def write() -> None:
            for n in range(1, 301):
                await bus.hash_set(ACCOUNT, {"n": b"%d" % n, "ab"[n % 2]: b"%d" % n})
            stop.set()

        task = asyncio.create_task(write())
        while not stop.is_set():
            seen = await other.hash_get(ACCOUNT)
            assert len(seen) == 2
            assert len(set(seen.values())) == 1
        await task

    run(scenario)


def test_stored_and_told_in_one_step(server: BusServer) -> None:
    async def scenario() -> None:
        bus, other = await ready_bus(server), await ready_bus(server)
        told: list[tuple[str, bytes]] = []

        async def listen() -> None:
            async for message in other.subscribe(["beats"]):
                told.append(message)

        task = asyncio.create_task(listen())

        async def heard() -> bool:
            await bus.set_and_publish("beat:x", "beats", b"1", expire_s=60)
            return bool(told)

        await eventually(heard)
        assert told[0] == ("beats", b"1")
        assert await bus.get("beat:x") == b"1"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(scenario)


def test_subscription_resumes_after_a_restart(server: BusServer) -> None:
    async def scenario() -> None:
        bus, other = await ready_bus(server), await ready_bus(server)
        told: list[bytes] = []

        async def listen() -> None:
            async for _, value in other.subscribe(["beats", "quotes:{MES}"]):
                told.append(value)

        task = asyncio.create_task(listen())
        for turn in range(3):

            async def heard(value: bytes = b"%d" % turn) -> bool:
                await bus.publish("quotes:{MES}", value)
                return value in told

            await eventually(heard)
            server.kill()
            await asyncio.to_thread(server.start)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(scenario)


def test_silent_subscription_is_probed(server: BusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet channel stays subscribed; a server that does not answer the probe is left and found again."""
    monkeypatch.setattr("shared.bus.bus.SUBSCRIPTION_PING_S", 0.05)

    async def scenario() -> None:
        bus, other = await ready_bus(server), await ready_bus(server)
        told: list[bytes] = []

        async def listen() -> None:
            async for _, value in other.subscribe(["beats"]):
                told.append(value)

        task = asyncio.create_task(listen())

        async def heard() -> bool:
            await bus.publish("beats", b"first")
            return bool(told)

        await eventually(heard)
        clients = int((await bus.info())["total_connections_received"])
        for _ in range(5):
            await asyncio.sleep(0.05)  # five probes of a quiet channel
        assert int((await bus.info())["total_connections_received"]) == clients
        server.pause()
        await asyncio.sleep(0.3)
        server.resume()

        async def heard_again() -> bool:
            await bus.publish("beats", b"again")
            return b"again" in told

        await eventually(heard_again)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(scenario)


def test_publishing_is_never_repeated(server: BusServer) -> None:
    """A lost reply makes the caller hear of it; the message went out once."""

    async def scenario() -> None:
        async with server.link() as link:
            bus, other = make_bus(link.address), await ready_bus(server)
            told: list[bytes] = []

            async def listen() -> None:
                async for _, value in other.subscribe(["beats"]):
                    told.append(value)

            task = asyncio.create_task(listen())

            async def heard() -> bool:
                await other.publish("beats", b"ready?")
                return bool(told)

            await eventually(heard)
            link.lose_reply_to = b"PUBLISH"
            with pytest.raises(ConnectionError):
                await bus.publish("beats", b"only-once")
            await bus.publish("beats", b"end")
            await eventually(lambda: b"end" in told)
            assert told.count(b"only-once") == 1
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await bus.close()

    run(scenario)


def test_lost_reply_to_a_read_is_asked_again(server: BusServer) -> None:
    async def scenario() -> None:
        async with server.link() as link:
            bus = make_bus(link.address)
            await bus.set("beat:x", b"1")
            link.lose_reply_to = b"GET"
            assert await bus.get("beat:x") == b"1"
            assert link.lost == 1
            await bus.close()

    run(scenario)


@pytest.mark.proves("I-17")
def test_lease_is_held_by_one(server: BusServer) -> None:
    async def scenario() -> None:
        bus = await ready_bus(server)
        lease = await bus.lease(LEASE, "host-a", 30)
        assert isinstance(lease, Lease)
        assert await bus.lease(LEASE, "host-b", 30) == "host-a"
        assert await bus.renew(lease, 30)
        assert await bus.release(lease)
        assert not await bus.release(lease)
        later = await bus.lease(LEASE, "host-b", 30)
        assert isinstance(later, Lease)
        assert later.epoch > lease.epoch
        assert not await bus.renew(lease, 30)

    run(scenario)


def test_lease_of_a_dead_holder_is_taken_over(server: BusServer) -> None:
    async def scenario() -> None:
        bus = await ready_bus(server)
        old = await bus.lease(LEASE, "host-a", 0.05)
        assert isinstance(old, Lease)

        async def taken() -> bool:
            return isinstance(await bus.lease(LEASE, "host-b", 0.05), Lease)

        await eventually(taken)
        assert not await bus.renew(old, 30)
        assert not await bus.release(old)

    run(scenario)


@pytest.mark.proves("I-21")
def test_lease_from_a_future_clock_is_no_lease(server: BusServer) -> None:
    """The server's clock fell back an hour: nobody waits an hour for a holder that died before."""

    async def scenario() -> None:
        bus = await ready_bus(server)
        assert isinstance(await bus.lease(LEASE, "host-a", 5), Lease)
        ahead_ms = int((await bus._once.time())[0]) * 1000 + 3_600_000
        await bus._once.execute_command("HSET", LEASE, "until_ms", ahead_ms)
        assert isinstance(await bus.lease(LEASE, "host-b", 5), Lease)

    run(scenario)


@pytest.mark.proves("I-17")
def test_lease_of_an_emptied_redis_is_a_later_one(server: BusServer) -> None:
    async def scenario() -> None:
        bus = await ready_bus(server)
        lost = await bus.lease(LEASE, "host-a", 30)
        await asyncio.sleep(0.01)  # the clock is what is left to tell
        await bus._once.flushall()
        later = await bus.lease(LEASE, "host-a", 30)
        assert isinstance(lost, Lease)
        assert isinstance(later, Lease)
        assert later.epoch > lost.epoch
        assert not await bus.renew(lost, 30)

    run(scenario)


@pytest.mark.proves("I-25")
def test_budget_is_shared_and_keeps_a_reserve(server: BusServer) -> None:
    async def scenario() -> None:
        one, two = await ready_bus(server), await ready_bus(server)

        async def ask(bus: RedisBus, n: int, *, urgent: bool = False) -> float:
            return await bus.budget(
                "demo.general", requests_max=10, window_s=60, reserve=3, urgent=urgent, member=f"m{n}"
            )

        assert [await ask((one, two)[n % 2], n) for n in range(7)] == [0.0] * 7
        wait_s = await ask(one, 7)
        assert 50 < wait_s <= 60
        assert [await ask(two, n, urgent=True) for n in range(8, 11)] == [0.0] * 3
        assert await ask(one, 11, urgent=True) > 50

    run(scenario)


@pytest.mark.proves("I-25")
def test_budget_window_slides(server: BusServer) -> None:
    async def scenario() -> None:
        bus = await ready_bus(server)

        async def granted(member: str) -> bool:
            wait_s = await bus.budget(
                "demo.general", requests_max=2, window_s=0.2, reserve=0, urgent=False, member=member
            )
            assert wait_s <= 0.2
            return wait_s == 0

        assert await granted("a")
        assert await granted("b")
        assert not await granted("c")
        await eventually(lambda: granted("c"))

    run(scenario)


@pytest.mark.proves("I-25")
def test_pause_holds_all_but_the_urgent(server: BusServer) -> None:
    """The gateway answered 429: new orders wait, a flatten does not."""

    async def scenario() -> None:
        bus = await ready_bus(server)
        await bus.budget_pause("demo.general", 30)

        async def ask(*, urgent: bool) -> float:
            return await bus.budget(
                "demo.general", requests_max=10, window_s=60, reserve=3, urgent=urgent, member="m"
            )

        assert 25 < await ask(urgent=False) <= 30
        assert await ask(urgent=True) == 0

    run(scenario)


def test_pause_takes_no_place_in_the_budget(server: BusServer) -> None:
    async def scenario() -> None:
        bus = await ready_bus(server)
        await bus.budget_pause("demo.general", 0.001)

        async def granted(n: int) -> bool:
            wait_s = await bus.budget(
                "demo.general", requests_max=2, window_s=60, reserve=0, urgent=False, member=f"m{n}"
            )
            return wait_s == 0

        await eventually(lambda: granted(1))
        assert await granted(2)
        assert not await granted(3)

    run(scenario)


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_wrong_password_is_told_with_its_remedy(server: BusServer) -> None:
    async def scenario() -> None:
        bus = await ready_bus(server)
        await bus._once.config_set("requirepass", "right")
        stranger = make_bus(server.address)
        with pytest.raises(BusRefused, match=r"redis\.password_file"):
            await stranger.ready()

    run(scenario)


@pytest.mark.proves("I-17")
def test_two_who_find_the_same_newest_epoch_get_two_when_the_clock_was_set_back(server: BusServer) -> None:
    """Redis came back with less in between: nothing but their clocks keeps them apart."""

    async def scenario() -> None:
        bus = await ready_bus(server)
        newest = 4 * 10**15  # of a clock that was years ahead
        epochs = set()
        for holder in ("host-a", "host-b"):
            await bus._once.execute_command("HSET", LEASE, "epoch", newest, "holder", "", "until_ms", 0)
            lease = await bus.lease(LEASE, holder, 30)
            assert isinstance(lease, Lease)
            epochs.add(lease.epoch)
            await asyncio.sleep(0.001)
        assert len(epochs) == 2
        assert min(epochs) > newest

    run(scenario)
