"""Relays: pipes that carry a producer from its source worker to a target worker."""
