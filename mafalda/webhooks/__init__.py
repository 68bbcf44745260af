"""The webhook bridge: room events by HTTP, signed, in order for each room, retried, with dead letters."""
