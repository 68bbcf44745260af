"""A peer's session, as the SDK and the drop-in share it: its pending requests, and the state of its placement."""
