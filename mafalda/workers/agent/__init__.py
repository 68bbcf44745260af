"""One server's agent: executes what the log orders on the server's workers, and appends the results."""

from mafalda.workers.agent.agent import Agent, IncarnationLost
from mafalda.workers.agent.incarnations import open_agent, run_agent

__all__ = ["Agent", "IncarnationLost", "open_agent", "run_agent"]
