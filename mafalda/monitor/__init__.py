"""Show: what the fleet is and was, read from the log and asked of the agents. Decides nothing, changes nothing."""
