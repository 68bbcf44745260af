"""Logs, metrics and traces: their set-up and their names."""
