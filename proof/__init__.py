"""The machines that prove the order path: simulation, chaos and fuzz; and the table of what they checked."""
