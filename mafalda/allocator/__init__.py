"""The allocator: decides by the log where peers and relays are placed, and appends its decisions as commands."""
