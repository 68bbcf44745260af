"""Producers and consumers of a room's application, and how they are opened again at a new place."""
