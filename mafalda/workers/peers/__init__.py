"""Peers that are placed on this server's workers: sessions, intents, queries."""
