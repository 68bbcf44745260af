"""Policies that choose a worker or the source of a relay, and the explanation of each choice."""
