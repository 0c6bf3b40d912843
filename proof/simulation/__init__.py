"""The deterministic simulator: the real shells on a virtual clock, beside models of Redis and broker."""
