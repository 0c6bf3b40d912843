"""`python -m services.feed`: market data from the broker's hub to the bus."""

from __future__ import annotations

from services.feed.config import FeedConfig
from services.feed.shell import run
from shared.runtime.service import serve

if __name__ == "__main__":
    serve("feed", FeedConfig, run)
