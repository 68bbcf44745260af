"""Worker processes: their command line, start, and end."""
