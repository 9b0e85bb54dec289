"""The whole platform with some cheap models, and scripts that speak to it with the official clients."""

import asyncio
from pathlib import Path

import pytest

from tests.contract.clients import SCRIPTS, Script, javascript_client, python_client
from tests.support.platform import MODELS, PROJECTS, Platform


@pytest.fixture(scope="session")
async def models(platform: Platform) -> Platform:
    """The platform with `hello-world`, `chatty`, `files` and `misbehaving` ready."""
    folders = (MODELS / "hello-world", *(PROJECTS / name for name in ("chatty", "files", "misbehaving")))
    await platform.wait_ready(*[await _published(platform, folder) for folder in folders])
    return platform


async def _published(platform: Platform, folder: Path) -> str:
    """Other tests of this run may have published it already."""
    if (platform.settings.data / "projects" / folder.name).exists():
        return f"millrace/{folder.name}"
    return await platform.publish(folder)


@pytest.fixture
async def python1(models: Platform, tmp_path: Path) -> Script:
    """`replicate` 1.0.7, told where to go exactly as the documentation says."""
    python = await asyncio.to_thread(python_client, "1.0.7")
    environment = {"REPLICATE_BASE_URL": models.api_url, "REPLICATE_API_TOKEN": models.token}
    return Script([str(python), str(SCRIPTS / "python1.py")], environment, tmp_path)


@pytest.fixture
async def python2(models: Platform, tmp_path: Path) -> Script:
    python = await asyncio.to_thread(python_client, "2.0.0b4")
    environment = {"REPLICATE_BASE_URL": models.api_url, "REPLICATE_API_TOKEN": models.token}
    return Script([str(python), str(SCRIPTS / "python2.py")], environment, tmp_path)


@pytest.fixture
async def javascript(models: Platform) -> Script:
    folder = await asyncio.to_thread(javascript_client, "1.4.0")
    environment = {"API_URL": models.api_url, "REPLICATE_API_TOKEN": models.token}
    return Script(["node", str(SCRIPTS / "javascript.mjs")], environment, folder)
