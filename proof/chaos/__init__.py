"""Chaos on real processes: faults of the matrix under load, then every invariant checked at rest."""
