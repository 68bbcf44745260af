"""The bus of a participant: what a token permits is all that it needs. No JetStream API."""
