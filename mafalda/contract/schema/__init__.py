"""JSON Schema and AsyncAPI documents, made from the messages."""
