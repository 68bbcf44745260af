"""The allocator's pure core: its state, the fleet as it sees it, and its decisions. No I/O, no clock."""
