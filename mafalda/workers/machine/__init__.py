"""The agent's pure core: what an entry of the log means for one server."""

from mafalda.workers.machine.demand import Demand, Wanted
from mafalda.workers.machine.liveness import Liveness
from mafalda.workers.machine.machine import Machine
from mafalda.workers.machine.ownership import OwnPeer

__all__ = ["Demand", "Liveness", "Machine", "OwnPeer", "Wanted"]
