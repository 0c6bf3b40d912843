"""What must hold after a run, from what each side has written down: venue, ledger, streams, links, logs."""
