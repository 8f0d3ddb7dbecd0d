"""A Telnyx to run against: real HTTP, lasting threads, faults on demand, and a log of the truth.

    with running_simulator(SimulatorConfig(latency_s=0.1)) as sim:
        sim.inject("stored_then_dropped")
        ...                                      # a client of sim.base_url with sim.api_key
        assert sim.overlaps() == ()

As a process: `worker sim`.
"""

from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.behaviour.faults import FaultOrder, Match
from worker.sandbox.simulator.behaviour.model import Script
from worker.sandbox.simulator.behaviour.plans import FAULTS, Endpoint, Plan
from worker.sandbox.simulator.endpoints.messaging.receiving import InboundSms
from worker.sandbox.simulator.record.log import Entry, Overlap, overlaps, read_log
from worker.sandbox.simulator.record.values import (
    Conversation,
    Draft,
    Message,
    ToolCall,
    prefix_hash,
)
from worker.sandbox.simulator.serving.simulator import Simulator, running_simulator

__all__ = [
    "FAULTS",
    "Conversation",
    "Draft",
    "Endpoint",
    "Entry",
    "FaultOrder",
    "InboundSms",
    "Match",
    "Message",
    "Overlap",
    "Plan",
    "Script",
    "Simulator",
    "SimulatorConfig",
    "ToolCall",
    "overlaps",
    "prefix_hash",
    "read_log",
    "running_simulator",
]
