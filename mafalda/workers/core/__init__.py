"""The agent's pure core: what an entry of the log means for one server."""

from mafalda.workers.core.demand import Demand, Wanted
from mafalda.workers.core.liveness import Liveness
from mafalda.workers.core.machine import Machine
from mafalda.workers.core.ownership import OwnPeer

__all__ = ["Demand", "Liveness", "Machine", "OwnPeer", "Wanted"]
