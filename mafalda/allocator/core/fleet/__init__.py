"""Candidates for a placement: workers with their load, liveness, obstacles and reserved capacity."""
