"""How loud the audio producers of a room are, over all of its workers, and which are the loudest."""
