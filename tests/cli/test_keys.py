"""The keys that an installation makes for itself, once."""

import json
import stat
from pathlib import Path

from cli.keys import keys, secrets_file
from core.settings import Settings


def test_they_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    made = keys(settings)
    assert made == keys(settings)
    assert len({made.secret, made.admin_token, made.admin_password}) == 3
    assert len(made.admin_password) >= 10
    assert stat.S_IMODE(secrets_file(settings).stat().st_mode) == 0o600


def test_what_an_older_installation_lacks_is_added_and_the_rest_kept(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    before = {"secret": "kept", "admin_token": "mr_kept"}
    secrets_file(settings).write_text(json.dumps(before))
    made = keys(settings)
    assert (made.secret, made.admin_token) == ("kept", "mr_kept")
    assert json.loads(secrets_file(settings).read_text()) == {**before, "admin_password": made.admin_password}


def test_settings_win_and_where_they_say_all_nothing_is_kept(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, secret="a", admin_token="b", admin_password="c")
    assert keys(settings).admin_password == "c"
    assert not secrets_file(settings).exists()
    kept = keys(settings.model_copy(update={"secret": ""}))
    assert (kept.admin_token, kept.admin_password) == ("b", "c")
