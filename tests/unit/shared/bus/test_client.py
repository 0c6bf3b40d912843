from __future__ import annotations

import pytest

from shared.bus.client import Address, AddressRefused


@pytest.mark.parametrize(
    ("url", "expected", "cli"),
    [
        ("unix:///run/redis.sock", Address(unix_path="/run/redis.sock"), "redis-cli -s /run/redis.sock"),
        ("redis://redis:6380/2", Address(host="redis", port=6380, db=2), "redis-cli -h redis -p 6380 -n 2"),
        ("redis://redis", Address(host="redis"), "redis-cli -h redis -p 6379"),
    ],
)
def test_url(url: str, expected: Address, cli: str) -> None:
    assert Address.from_url(url) == expected
    assert Address.from_url(url).cli() == cli


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://:hunter2@redis/0", "redis.password_file"),
        ("rediss://redis/0", "redis://host:port/0"),
        ("localhost:6379", "redis://host:port/0"),
        ("unix://", "unix:///path"),
        ("redis://redis/first", "must be a number"),
    ],
)
def test_refused_url_names_the_remedy_and_no_password(url: str, remedy: str) -> None:
    with pytest.raises(AddressRefused, match=remedy) as caught:
        Address.from_url(url)
    assert "hunter2" not in str(caught.value)


def test_password_does_not_show() -> None:
    address = Address(host="redis", password="hunter2")
    assert "hunter2" not in repr(address)
    assert "hunter2" not in address.cli()


def test_only_reads_are_ever_repeated() -> None:
    address = Address(host="redis")
    assert address.once_client().connection_pool.connection_kwargs["retry"]._retries == 0
    assert address.retrying_client().connection_pool.connection_kwargs["retry"]._retries > 0
