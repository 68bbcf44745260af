"""A peer's session on its worker: place, queue, objects, and the publishing of results."""
