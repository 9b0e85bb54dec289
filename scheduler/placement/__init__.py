"""Which Instance goes where, and which must go first. Pure; every refusal is a sentence a person can act on.

GPUs are devices, taken by UUID and held until the container is gone: an Instance that drains still holds its GPUs. A
MIG slice is a device of its own. Whoever is measured, and allows it, leaves to others what it does not use.
"""

from scheduler.placement.nouns import Assignment, Device, Foreign, Held, Need, NodeState, Plan
from scheduler.placement.planner import plan

__all__ = ["Assignment", "Device", "Foreign", "Held", "Need", "NodeState", "Plan", "plan"]
