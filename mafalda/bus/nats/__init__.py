"""The bus on NATS, and the nats-server that local commands run."""
