"""The worker as the library sees it: its objects, its channel, and the sessions of its objects."""
