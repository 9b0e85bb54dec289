"""By which address a container reaches this process. Knows interfaces and subnets, nothing of engines."""

import ipaddress
from socket import AF_INET

import psutil

from core.errors import Unavailable


def towards(network: str, subnet: str, gateway: str | None, isolated: bool) -> str:
    """On the machine itself that is the network's gateway; inside a container on that network, its own address."""
    own = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == AF_INET]
    if gateway in own:
        return gateway
    inside = [address for address in own if ipaddress.ip_address(address) in ipaddress.ip_network(subnet)]
    if not inside:
        raise Unavailable(
            f"This node is neither on the machine of its Docker engine nor on the network {network}, so model "
            f"containers cannot reach it: run it with the host's network, or set MILLRACE_NODE_ADDRESS."
        )
    if isolated:
        raise Unavailable(
            f"This node is a container on the network {network}, whose members may not talk to each other: run it with "
            f"the host's network, or name another network in MILLRACE_DOCKER_NETWORK."
        )
    return inside[0]
