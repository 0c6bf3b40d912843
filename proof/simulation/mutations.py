"""All planted bugs. Who imports this has the whole list; see `planting`."""

from __future__ import annotations

import proof.simulation.bus_mutations
import proof.simulation.feed_mutations
import proof.simulation.guard_mutations
import proof.simulation.host_mutations
import proof.simulation.order_mutations
import proof.simulation.recorder_mutations
import proof.simulation.session_mutations  # noqa: F401
from proof.simulation.planting import BUGS, CAUGHT, SEEDS_MAX, planted

__all__ = ["BUGS", "CAUGHT", "SEEDS_MAX", "planted"]
