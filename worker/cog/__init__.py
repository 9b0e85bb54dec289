"""Speaks with one model container, whatever its Cog version, and turns what it says into events.

Knows nothing of Postgres, accounts or runtimes. The container is untrusted: ids are checked, only named fields are
copied, sizes are bounded, and nothing it does raises out of `CogContainer.predict`.
"""

from worker.cog.client import CogContainer, SetupFailed
from worker.cog.health import Health
from worker.cog.hooks import HookInbox
from worker.cog.leaving import HandedOver, Kept
from worker.cog.outcome import wants_files_inline
from worker.cog.turns import TurnCalledOff, TurnMissed

__all__ = [
    "CogContainer",
    "HandedOver",
    "Health",
    "HookInbox",
    "Kept",
    "SetupFailed",
    "TurnCalledOff",
    "TurnMissed",
    "wants_files_inline",
]
