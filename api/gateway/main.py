"""`python -m api.gateway`: the process. Runs where the control plane is, and only if it is given a port."""

import asyncio
import signal
import sys

import uvloop

from api.gateway.files import serving_files
from api.gateway.membership import Membership
from api.gateway.server import Gateway
from api.gateway.upstreams import Upstream, postgres, redis
from core import collector, health
from core.joining.certificates import load_authority
from core.joining.wire import Service
from core.log import configure, get_logger
from core.resources import open_resources
from core.settings import Settings, get_settings

log = get_logger()


def main() -> int:
    settings = get_settings()
    configure(settings, "gateway")
    if not settings.gateway_port:
        sys.stderr.write("Set MILLRACE_GATEWAY_PORT to the port at which nodes of other machines shall join.\n")
        return 1
    try:
        upstreams = {Service.POSTGRES: postgres(settings.database_url), Service.REDIS: redis(settings.redis_url)}
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    collector.relax()
    uvloop.run(_run(settings, upstreams))
    return 0


async def _run(settings: Settings, upstreams: dict[Service, Upstream]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    authority = load_authority(settings.data)
    async with open_resources(settings) as resources, serving_files(resources) as files:
        if files is not None:
            upstreams = {**upstreams, Service.FILES: files}
        membership = Membership(resources, authority, {service: each.told for service, each in upstreams.items()})
        gateway = Gateway(resources, authority, membership, upstreams)
        async with gateway.open(settings.host, settings.gateway_port):
            log.info("gateway is up", port=settings.gateway_port, authority=authority.fingerprint)
            beating = asyncio.create_task(health.keep_beating(settings, "gateway"))
            watching = asyncio.create_task(gateway.cut_the_expelled())
            stopped = asyncio.create_task(stop.wait())
            done, _ = await asyncio.wait({beating, watching, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in (beating, watching, stopped):
                task.cancel()
            done.pop().result()
