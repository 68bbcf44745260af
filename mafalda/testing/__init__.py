"""Tools for tests, shipped with the package: an in-memory bus, a clock, example messages, stories, replays."""
