"""The agent of a server: runs its mediasoup workers, and does what the log orders."""
