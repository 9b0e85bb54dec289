"""Which Cog projects come along, and in which order they are prepared."""

from pathlib import Path

from cli.errors import Refusal
from core.settings import Settings

#: Prepared before all others, so that something runs within a minute.
FIRST_MODEL = "hello-world"
_BUILTIN = Path(__file__).parents[1] / "cog_models"


def models_root(settings: Settings) -> Path:
    return settings.models or _BUILTIN


def model_folders(settings: Settings) -> list[Path]:
    """Raises `Refusal` where there are none."""
    found = (file.parent for file in models_root(settings).glob("*/cog.yaml"))
    folders = sorted(found, key=lambda folder: (folder.name != FIRST_MODEL, folder.name))
    if not folders:
        root = models_root(settings)
        raise Refusal(f"There are no Cog projects in {root}; set MILLRACE_MODELS to a folder that has some.")
    return folders
