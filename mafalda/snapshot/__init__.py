"""Snapshots of the fleet: written beside the log, so that nobody has to read the log from its beginning."""
