"""Read-only views of a fleet: its state now and at any time in the past, from the log and from requests to agents."""
