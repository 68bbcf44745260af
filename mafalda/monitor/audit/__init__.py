"""The audit of a fleet: what should be by the log, and is not. Pure, but for ``collect``, which reads and requests."""
