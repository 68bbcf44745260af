"""One connection to NATS: its life, subscriptions, requests and JetStream's API."""
