"""Transports of each kind, and the addresses on which they listen."""
