"""`millrace setup`: brings the database to the newest schema and fills in what every installation has.

The admin's account and token, Hardware, and the models that come along. Safe to run again and at any time: what is
there stays, a changed model becomes a new Version. Prints what it does; `millrace up` shows that to its user.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import orjson
from sqlalchemy.exc import SQLAlchemyError

import migrations
from cli.errors import Refusal
from cli.model_folders import model_folders
from core import bundles, catalog
from core.bundles import BundleError
from core.cog_config import read_config
from core.database import Transaction
from core.errors import Invalid
from core.hardware import CPU, HardwareKind, gpu_hardware, machine_hardware
from core.people import accounts, audit, logins, tokens
from core.people.accounts import PUBLISHER
from core.resources import Resources, open_resources
from core.settings import Settings, get_settings

# A driver that hangs must not keep everybody from starting.
_GPU_LIST_SECONDS = 30


async def setup(settings: Settings) -> None:
    """Raises `Refusal`."""
    async with open_resources(settings) as resources:
        publisher = await seed_accounts(resources)
        gpus = await seed_hardware(resources)
        for folder in model_folders(settings):
            await publish(resources, publisher, folder, gpus)


async def seed_accounts(resources: Resources) -> str:
    """Returns the id of the account that publishes. Raises `Refusal`."""
    settings = resources.settings
    async with resources.database.transaction() as tx:
        admin = await accounts.ensure(tx, settings.admin_username, settings.admin_username, is_admin=True)
        if admin.deleted_at is not None:
            raise Refusal(f"The account {admin.username} is deleted: set MILLRACE_ADMIN_USERNAME to another admin's.")
        if settings.admin_token:
            await tokens.add(tx, admin.id, settings.admin_token, "first token")
        if settings.admin_password:
            await seed_login(tx, admin.id, settings)
        publisher = await accounts.ensure(tx, PUBLISHER, "Millrace", type="organization")
    return publisher.id


async def seed_login(tx: Transaction, admin_id: str, settings: Settings) -> None:
    try:
        await logins.seed(tx, admin_id, settings.admin_email, settings.admin_password)
    except Invalid as error:
        raise Refusal(f"Check MILLRACE_ADMIN_EMAIL and MILLRACE_ADMIN_PASSWORD. {error.detail}") from None


def _gpu_models() -> list[str]:
    """Of each GPU. Asked of the worker, in a process of its own: only it may touch the driver."""
    listed = subprocess.run(
        [sys.executable, "-m", "worker", "gpus"], capture_output=True, timeout=_GPU_LIST_SECONDS, check=True
    )
    return [gpu["name"] for gpu in orjson.loads(listed.stdout) if gpu["healthy"]]


async def seed_hardware(resources: Resources, look: Callable[[], list[str]] = _gpu_models) -> list[HardwareKind]:
    """What this machine can be, with one of its GPUs and with several. Returns the kinds with one, its first GPU's
    first."""
    models = await asyncio.to_thread(look)
    async with resources.database.transaction() as tx:
        for kind in (CPU, *machine_hardware(models)):
            terms = (kind.price_nanos_per_second, kind.gpu_count, kind.gpu_model)
            await catalog.put_hardware(tx, kind.sku, kind.name, *terms)
    return [gpu_hardware(model) for model in dict.fromkeys(models)]


async def publish(resources: Resources, owner_id: str, folder: Path, gpus: list[HardwareKind]) -> None:
    """Makes the project the latest public Version of the Model named like its folder."""
    settings = resources.settings
    config = await asyncio.to_thread(read_config, folder)
    digest = await asyncio.to_thread(bundles.digest, folder)
    if not await resources.files.has_bundle(digest):
        say(f"packing {folder.name}")
        await _put_bundle(resources, folder, digest)
    readme = _readme(folder)
    hardware = gpus[0] if config.gpu and gpus else CPU
    async with resources.database.transaction() as tx:
        model = await catalog.ensure_model(
            tx,
            owner_id,
            folder.name,
            hardware.sku,
            description=_first_paragraph(readme),
            visibility="public",
            readme=readme,
        )
        version_id = await catalog.publish(
            tx,
            model.id,
            "bundle",
            digest,
            config={},  # A bundle's configuration is its own cog.yaml.
            cog_version=config.sdk_version,
            slots=config.concurrency or 1,
            timeout_seconds=settings.prediction_timeout_seconds,
            setup_timeout_seconds=settings.setup_timeout_seconds,
        )
        await catalog.prepare_again(tx, version_id)


async def _put_bundle(resources: Resources, folder: Path, digest: str) -> None:
    with tempfile.TemporaryDirectory(dir=resources.settings.data) as scratch:
        archive = Path(scratch) / "bundle.tar.gz"
        await asyncio.to_thread(bundles.pack, folder, archive)
        await resources.files.put_bundle(digest, archive)


def _readme(folder: Path) -> str | None:
    path = folder / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else None


def _first_paragraph(readme: str | None) -> str | None:
    """The first lines of text that are no heading, as one."""
    paragraphs = (part for part in re.split(r"\n\s*\n", readme or "") if not part.lstrip().startswith("#"))
    return next((" ".join(part.split()) for part in paragraphs if part.strip()), None)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    settings = get_settings()
    audit.act_as(audit.operator())
    try:
        if not settings.database_url or not settings.redis_url:
            raise Refusal("Set MILLRACE_DATABASE_URL and MILLRACE_REDIS_URL; `millrace up` brings servers of its own.")
        settings.data.mkdir(parents=True, exist_ok=True)
        migrations.upgrade(settings.database_url)
        asyncio.run(setup(settings))
    except (Refusal, BundleError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (SQLAlchemyError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"The setup failed: {' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
