"""The bus: the protocol that all parts use, its configuration, and its implementation on NATS JetStream."""
