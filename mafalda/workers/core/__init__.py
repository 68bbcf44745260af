"""The agent's pure core: state machines that turn stimuli into instructions."""

from mafalda.workers.core.demand import Demand
from mafalda.workers.core.liveness import PeerLiveness
from mafalda.workers.core.machine import Machine
from mafalda.workers.core.placed_peer import PlacedPeer

__all__ = ["Demand", "Machine", "PeerLiveness", "PlacedPeer"]
