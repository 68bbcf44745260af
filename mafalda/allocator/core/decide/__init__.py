"""Decisions: the commands and refusals that follow from a stimulus and the state."""
