"""Promise 10: secrets are kept as hashes, or not at all, and stand in no text that people read.

What it finds it names, and never shows.
"""

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import text

from core.doctor.checks import RECENT, SHOWN, Check, Finding, asks
from core.resources import Resources
from core.settings import Settings

#: Tokens and keys of webhooks, as we make them.
_OURS = r"\m(mr_[0-9a-f]{40}|whsec_[A-Za-z0-9+/=]{24,})"
#: Shorter ones are words that may stand anywhere.
_LEAST_CHARACTERS = 8
#: The end of each log.
_LOG_BYTES = 1024 * 1024

_TEXTS = f"""
    SELECT 'Prediction ' || id AS subject, concat_ws(' ', error, queue_reason) AS said
    FROM (SELECT id, error, queue_reason FROM predictions ORDER BY id DESC LIMIT {RECENT}) p
    UNION ALL
    SELECT 'Instance ' || id, concat_ws(' ', reason, setup_logs)
    FROM (SELECT id, reason, setup_logs FROM instances ORDER BY id DESC LIMIT {RECENT // 10}) i
    UNION ALL
    SELECT 'Event ' || id || ' of ' || subject, reason
    FROM (SELECT id, subject, reason FROM events ORDER BY id DESC LIMIT {RECENT}) e
    UNION ALL
    SELECT 'Try ' || number || ' of delivery ' || delivery_id, error
    FROM (SELECT delivery_id, number, error FROM webhook_attempts ORDER BY delivery_id DESC LIMIT {RECENT}) a
    UNION ALL
    SELECT 'Audit event ' || number, concat_ws(' ', target, before::text, after::text)
    FROM (SELECT number, target, before, after FROM audit_events ORDER BY number DESC LIMIT {RECENT}) a
"""
_SAID = "{} shows a secret: give that one up (revoke the token, change the password), then report this as a bug."


async def _in_texts(resources: Resources) -> list[Finding]:
    statement = text(
        f"""
        SELECT subject FROM ({_TEXTS}) AS texts
        WHERE said ~ :ours OR EXISTS (SELECT FROM unnest(CAST(:own AS text[])) AS own WHERE strpos(said, own) > 0)
        LIMIT {SHOWN + 1}
        """
    ).bindparams(ours=_OURS, own=own_secrets(resources.settings))
    async with resources.database.autocommit() as tx:
        rows = await tx.all(statement)
    return [Finding(row.subject, _SAID.format(row.subject)) for row in rows]


async def _in_logs(resources: Resources) -> list[Finding]:
    folder = resources.settings.data / "logs"
    paths = sorted(folder.glob("*.log")) if folder.is_dir() else []
    own = [secret.encode() for secret in own_secrets(resources.settings)]
    return [Finding(path.name, _SAID.format(path)) for path in paths if await asyncio.to_thread(_shows, path, own)]


def _shows(path: Path, own: list[bytes]) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_BYTES))
        said = file.read()
    return bool(re.search(_OURS.replace(r"\m", r"\b").encode(), said)) or any(secret in said for secret in own)


def own_secrets(settings: Settings) -> list[str]:
    """What this installation itself was given."""
    urls = (settings.database_url, settings.redis_url)
    given = (settings.secret, settings.admin_token, settings.admin_password, settings.stripe_secret_key)
    passwords = (urlsplit(url).password or "" for url in urls)
    found = (*given, settings.stripe_webhook_secret, *passwords)
    return [secret for secret in found if len(secret) >= _LEAST_CHARACTERS]


CHECKS = (
    asks(
        "secret inputs",
        "Nothing that has ended has its secret inputs any more.",
        f"""
        SELECT id AS subject FROM (SELECT id, input, secret_inputs, completed_at
            FROM predictions ORDER BY id DESC LIMIT {RECENT}) p
        WHERE completed_at IS NOT NULL AND secret_inputs IS NOT NULL AND jsonb_typeof(input) = 'object'
            AND EXISTS (SELECT FROM jsonb_each(input) AS pair
                WHERE pair.key = ANY (secret_inputs) AND pair.value <> 'null'::jsonb)
        """,
        "{subject} has ended and still has a secret input: report this as a bug.",
        invariant=10,
    ),
    asks(
        "hashes",
        "Of tokens, passwords and sessions only hashes are kept.",
        """
        SELECT 'Token ' || id AS subject FROM tokens WHERE octet_length(token_hash) <> 32 OR length(prefix) > 8
        UNION ALL
        SELECT 'Login ' || id FROM logins WHERE password_hash NOT LIKE '$argon2%'
        UNION ALL
        SELECT 'A session of login ' || login_id FROM sessions WHERE octet_length(id) <> 32
        """,
        "{subject} is kept as more than a hash: revoke it, then report this as a bug.",
        invariant=10,
    ),
    Check("texts", "No secret stands in an error, a reason, a setup log or the audit log.", _in_texts, 10),
    Check("logs", "No secret stands in a log of this machine.", _in_logs, 10),
)
