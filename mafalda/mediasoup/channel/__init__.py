"""The channel to a worker: framing, requests, answers and notifications."""
