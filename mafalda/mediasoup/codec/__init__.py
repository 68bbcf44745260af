"""Encoding and decoding of flatbuffers by a schema, to and from dicts and JSON."""
