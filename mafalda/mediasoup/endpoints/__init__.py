"""Producers and consumers of media and data."""
