"""The state of the whole fleet as a fold of the log. Pure."""
