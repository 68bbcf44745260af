"""The allocator's I/O: reads the log, runs the core for each room, and appends what it decides."""
