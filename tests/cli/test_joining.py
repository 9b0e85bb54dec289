"""`millrace join-token`, `joined`, `expel` and `join`: what an operator types on either machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli import joining as commands
from cli.errors import Refusal
from core.clock import now
from core.ids import new_id
from core.joining import members
from core.joining.certificates import NODE_LIFETIME, load_authority
from core.joining.tokens import JoinSecret, split_address
from core.resources import Resources
from core.settings import Settings

MILLRACE = Path(sys.executable).with_name("millrace")


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "MILLRACE_DATA": str(settings.data),
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_REDIS_URL": settings.redis_url,
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MILLRACE, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


async def join(resources: Resources, token: JoinSecret, name: str) -> None:
    async with resources.database.transaction() as tx:
        await members.join(tx, token.secret, name, "192.0.2.1", now() + NODE_LIFETIME)


async def test_the_commands_make_list_and_revoke_tokens_and_expel_nodes(
    settings: Settings, resources: Resources, environment: dict[str, str]
) -> None:
    label, node = f"rack-{new_id()}", f"node-{new_id()}"
    made = run(environment, "join-token", "create", "--name", label, "--uses", "2", "--address", "10.0.0.5:8443")
    token = JoinSecret.parse(made.stdout)
    assert (token.address, token.fingerprint) == ("10.0.0.5:8443", load_authority(settings.data).fingerprint)
    await join(resources, token, node)
    listed = run(environment, "join-token", "list").stdout
    id = re.search(rf"^(\w+) +{label} +1 of 2 +until ", listed, re.MULTILINE)[1]
    assert token.secret not in listed
    assert re.search(rf"^{node} .*192\.0\.2\.1 +{label} ", run(environment, "joined").stdout, re.MULTILINE)
    assert run(environment, "join-token", "revoke", id).stdout == (
        f"Nobody joins with the token {label} any more. 1 joined with it, and stay: `millrace expel` is for them.\n"
    )
    assert run(environment, "expel", node).stdout.startswith(f"{node} is let in no more")
    assert node not in run(environment, "joined").stdout
    refused = run(environment, "expel", node)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"No node named {node} has joined; `millrace joined` shows who has.\n"


def test_a_token_is_made_only_where_a_gateway_is_reached(environment: dict[str, str]) -> None:
    refused = run(environment, "join-token", "create")
    assert refused.returncode == 1
    assert "set MILLRACE_GATEWAY_PORT" in refused.stderr
    here = run({**environment, "MILLRACE_GATEWAY_ADDRESS": "gateway.example:1"}, "join-token", "create")
    assert JoinSecret.parse(here.stdout).address == "gateway.example:1"
    public = {"MILLRACE_GATEWAY_PORT": "8443", "MILLRACE_PUBLIC_URL": "https://millrace.example/x"}
    assert JoinSecret.parse(run({**environment, **public}, "join-token", "create").stdout).address == (
        "millrace.example:8443"
    )


def test_join_says_in_one_sentence_why_a_machine_cannot_join(tmp_path: Path) -> None:
    environment = {**os.environ, "MILLRACE_DATA": str(tmp_path)}
    token = JoinSecret("0" * 40, "0" * 64, "127.0.0.1:1")
    refused = run(environment, "join", str(token))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines()[-1].startswith("The gateway at 127.0.0.1:1 cannot be reached")


@pytest.mark.parametrize("address", ["", "host", "host:", ":8443", "host:0", "host:65536", "host:http"])
def test_an_address_is_host_and_port(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)


async def test_a_lifetime_nobody_understands_is_refused(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        with pytest.raises(Refusal, match="like 12h or 90d"):
            await commands.create(tx, "", "soon", "1", "host:1")
    assert split_address("[2001:db8::1]:8443") == ("2001:db8::1", 8443)
