"""The supervision of worker processes: starting, replacing, routers, and load reports."""
