"""The fleet over HTTP: a state that follows the log, the past, and both as JSON, for the monitor page and programs."""
