"""The log in JetStream: streams, appends, reads, and following without gaps."""
