"""One box: the steps from an empty folder to an api that answers, and the way back."""

import asyncio
import http.client
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from cli import checks, local_api, processes
from cli.embedded.postgres import Postgres
from cli.errors import Refusal
from cli.example import example
from cli.installation import Installation, installation
from cli.keys import secrets_file, write_private
from cli.launching import Forge
from cli.leftovers import ProcessRecord, end, end_process
from cli.model_folders import FIRST_MODEL, model_folders
from cli.model_watch import ModelWatch
from cli.programs import ProgramFailed, run
from cli.setup_marker import SetupMarker
from cli.steps import Step, step
from cli.supervisor import Supervisor
from core import health
from core.clock import monotonic
from core.settings import Settings

# PostgreSQL reads its log since the last checkpoint after a crash: seconds, on a slow disk more.
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.05
# Whoever ends this often before it was healthy once will not become so by itself.
_MAX_DEATHS = 3


class Box:
    def __init__(self, settings: Settings, console: Console, supervisor: Supervisor) -> None:
        self._settings = settings
        self._console = console
        self._supervisor = supervisor
        self._watching: asyncio.Task[None] | None = None
        self._forge: Forge | None = None
        self._models: list[Path] = []

    @property
    def _ready_file(self) -> Path:
        return self._settings.data / "ready.json"

    async def start(self, record: ProcessRecord) -> None:
        """Raises `Refusal`."""
        self._ready_file.unlink(missing_ok=True)
        with step(self._console, "Checks") as current:
            own = await self._check(record, current)
        # It loads while the servers start.
        self._forge = Forge(own.environment, self._supervisor.log("forge"), self._ready_file)
        await self._forge.warm_up()
        if own.postgres:
            with step(self._console, "PostgreSQL") as current:
                await self._start_postgres(own, own.postgres, current)
        if own.redis:
            with step(self._console, "Redis"):
                await self._supervisor.start(processes.redis(own))
                await self._until("redis", partial(_accepts, str(own.redis.socket)))
        marker = SetupMarker(own)
        with step(self._console, "Setup") as current:
            await self._set_up(own, marker, current)
        with step(self._console, "Processes"):
            await self._start_processes(own, self._forge)
        if not marker.matches():
            with step(self._console, FIRST_MODEL) as current:
                await self._watch_models(own, marker, current)
        await self._announce(own)

    async def restart(self) -> None:
        """Millrace's own processes, one after the other, with the code as it is on disk now; what runs goes on.

        Raises `Refusal` where one does not come up; it is tried again for as long as we run.
        """
        assert self._forge is not None
        own = installation(self._settings)
        await self._forge.renew()
        for name in processes.wanted(self._settings):
            with step(self._console, f"Restart {name}"):
                health.forget(self._settings, name)
                await self._supervisor.renew(name)
                await self._until(name, partial(self._is_healthy, own, name))

    async def close(self) -> None:
        self._ready_file.unlink(missing_ok=True)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        await self._supervisor.stop_all()
        if self._forge is not None:
            await self._forge.close()

    async def _check(self, record: ProcessRecord, current: Step) -> Installation:
        checks.free_space(self._settings.data)
        self._models = model_folders(self._settings)
        if leftovers := record.leftovers():
            current.say(f"ending what was left running: {', '.join(one.name for one in leftovers)}")
            await end(leftovers)
        own = installation(self._settings)
        if own.postgres and (server := own.postgres.leftover()):
            await end_process(server, processes.postgres(own).stop_signal)
        checks.port_free(self._settings.host, self._settings.port)
        if self._settings.gateway_port:
            checks.port_free(self._settings.host, self._settings.gateway_port, "MILLRACE_GATEWAY_PORT")
        current.detail = str(self._settings.data)
        return own

    async def _start_postgres(self, own: Installation, server: Postgres, current: Step) -> None:
        if not server.is_initialized:
            current.say("making an empty database")
            server.before_init()
            environment = processes.server_environment(own, server.binaries)
            try:
                await run(server.init_command, environment, privileges=server.privileges)
            except ProgramFailed as error:
                raise Refusal(f"PostgreSQL could not make its database: {error}") from None
            server.after_init()
            SetupMarker(own).clear()
        await self._supervisor.start(processes.postgres(own))
        await self._until("postgres", partial(_succeeds, server.ready_command))

    async def _set_up(self, own: Installation, marker: SetupMarker, current: Step) -> None:
        """Tables, the admin's account, Hardware, Versions: in a process of its own, as `millrace setup` runs it."""
        if marker.matches():
            current.detail = "as before"
            return
        marker.clear()
        try:
            await run((sys.executable, "-m", "cli.setup"), own.environment, current.say)
        except ProgramFailed as error:
            raise Refusal(str(error)) from None

    async def _start_processes(self, own: Installation, forge: Forge) -> None:
        names = processes.wanted(self._settings)
        for name in names:
            health.forget(self._settings, name)
            await self._supervisor.start(processes.process(forge, name, self._settings.drain_seconds))
        for name in names:
            await self._until(name, partial(self._is_healthy, own, name))

    async def _is_healthy(self, own: Installation, name: str) -> bool:
        if not health.is_alive(self._settings, name):
            return False
        return name != "api" or await self._api_answers(own)

    async def _api_answers(self, own: Installation) -> bool:
        try:
            status, _ = await local_api.get(self._settings, "/health", own.keys.admin_token)
        except (OSError, http.client.HTTPException):
            return False
        return status == http.client.OK

    async def _until(self, name: str, is_ready: Callable[[], Awaitable[bool]]) -> None:
        """Waits for a service to become ready. Raises `Refusal` with the last line of its log if it does not."""
        deadline = monotonic() + _START_SECONDS
        while not await is_ready():
            if self._supervisor.deaths(name) >= _MAX_DEATHS or monotonic() > deadline:
                log = self._supervisor.log(name)
                lines = log.read_text(errors="replace").strip().splitlines()
                raise Refusal(f"{name} does not start: {lines[-1] if lines else 'it says nothing'} (see {log})")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _watch_models(self, own: Installation, marker: SetupMarker, current: Step) -> None:
        watch = ModelWatch(own, self._tell)
        self._watching = asyncio.create_task(self._follow(watch, marker))
        if any(folder.name == FIRST_MODEL for folder in self._models):
            current.say("its environment is being built, which takes a minute on the first start")
            await watch.first_ready()

    async def _follow(self, watch: ModelWatch, marker: SetupMarker) -> None:
        if await watch.follow():
            marker.leave()

    async def _announce(self, own: Installation) -> None:
        status, answer = await local_api.get(self._settings, "/v1/webhooks/default/secret", own.keys.admin_token)
        if status != http.client.OK:
            raise Refusal(f"The api does not take the admin's token ({status}); check MILLRACE_ADMIN_TOKEN.")
        url = self._settings.url
        ready = {
            "url": url,
            "api_url": f"{url}/v1",
            "token": own.keys.admin_token,
            "webhook_secret": answer["key"],
        }
        write_private(self._ready_file, json.dumps(ready, indent=2) + "\n")
        self._console.print(f"\nMillrace is ready at {url}. Ctrl-C stops it.\n", markup=False, highlight=False)
        # Not wrapped: what is printed is what is pasted.
        pages = (
            f"Its pages, at the same address, are for {self._settings.admin_email}; {self._where_the_password_is()}.\n"
        )
        self._console.out(pages, highlight=False)
        self._console.out(example(ready["api_url"], ready["token"]), highlight=False)

    def _where_the_password_is(self) -> str:
        if self._settings.admin_password:
            return "the first password is MILLRACE_ADMIN_PASSWORD"
        return f"the first password is in {secrets_file(self._settings)} as admin_password"

    def _tell(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


async def _accepts(socket: str) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def _succeeds(command: tuple[str, ...]) -> bool:
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait() == 0
