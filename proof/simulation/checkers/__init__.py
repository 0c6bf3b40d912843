"""The checkers, one theme each; `proof.simulation.judge` calls them and keeps what they share."""
