"""Tools for asyncio that several packages need. Each mechanism is here once; none knows what it is used for."""
