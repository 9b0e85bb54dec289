"""The schema's history. `upgrade(url)` brings a database to the newest revision; safe to call by several at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_HERE = Path(__file__).parent


def config(url: str) -> Config:
    """Alembic's configuration, without an ini file: `url` is a plain postgresql:// one."""
    made = Config()
    made.set_main_option("script_location", str(_HERE))
    made.set_main_option("file_template", "%%(year)d%%(month).2d%%(day).2d_%%(slug)s")
    made.attributes["url"] = url
    return made


def upgrade(url: str, revision: str = "head") -> None:
    command.upgrade(config(url), revision)


def newest() -> str:
    """The revision that this program knows."""
    return str(ScriptDirectory.from_config(config("")).get_current_head())
