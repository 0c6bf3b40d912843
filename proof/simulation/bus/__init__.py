"""A model of one Redis server, and connections to it that the bus code cannot tell from real ones."""
