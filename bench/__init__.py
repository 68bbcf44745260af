"""Measurements, as ratios against a baseline in the same run: the machine is shared and noisy."""
