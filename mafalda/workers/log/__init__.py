"""The agent's access to the log and to other agents: reading and publishing."""
