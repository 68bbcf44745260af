"""The HTTP API for application servers that have no NATS: rooms, peers, tokens, and the feed as server-sent events.

It holds no state but what it reads from the log, so any number may run (docs/decisions/0013-http-api.md).
"""
