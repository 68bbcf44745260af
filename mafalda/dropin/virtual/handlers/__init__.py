"""Handlers of the library's requests, by the kind of the object that a request is for."""
