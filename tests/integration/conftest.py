"""Servers that several integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.redis_wires import KINDS, ModelServer, RealServer, running_server


@pytest.fixture(scope="module", params=KINDS)
def running_redis(request: pytest.FixtureRequest) -> Iterator[ModelServer | RealServer]:
    with running_server(request.param) as server:
        yield server


@pytest.fixture
def redis(running_redis: ModelServer | RealServer) -> Iterator[ModelServer | RealServer]:
    """An empty server, modelled or real."""
    running_redis.clean()
    yield running_redis
    running_redis.clean()
