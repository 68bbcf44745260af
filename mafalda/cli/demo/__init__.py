"""``mafalda demo``: a clip that is published, received on other workers and checked."""
