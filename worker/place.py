"""What an Instance finds around it on its node. Knows nothing of Instances."""

from dataclasses import dataclass

import aiohttp

from core.resources import Resources
from worker.endpoint import Endpoint
from worker.inputs import InputFiles
from worker.outputs import OutputFiles
from worker.runtimes.base import Runtime


class ContainerLost(Exception):
    """The container is gone, or not worth keeping; the message says why."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all Instances of a node share."""

    resources: Resources
    boot_id: str
    http: aiohttp.ClientSession
    inputs: InputFiles
    outputs: OutputFiles


@dataclass(frozen=True, slots=True)
class Place:
    """A runtime of this node, and the endpoint that its containers call."""

    runtime: Runtime
    endpoint: Endpoint
