"""One module for each command of ``mafalda``."""
