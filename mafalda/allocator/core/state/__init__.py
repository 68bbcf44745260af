"""The allocator's state, and how log entries change it."""
