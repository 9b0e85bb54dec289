"""How a machine joins through a gateway, by real TLS and real rows; and who is refused, in which words."""

import asyncio
import json
import re
import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from core.clock import now
from core.errors import Unavailable
from core.ids import new_id
from core.joining import members, tokens
from core.joining.certificates import GATEWAY_NAME, expiry, load_authority, new_request
from core.joining.tokens import JoinSecret
from core.joining.wire import Refused, Service, exchange
from core.resources import open_resources
from core.tables import AuditEvent
from tests.support.gateways import GatewayProcess, machine
from tests.support.ports import free_port
from worker.joining import joining
from worker.joining.credentials import Credentials
from worker.joining.membership import NotAMember, membership
from worker.joining.uplink import Trust, connect


def a_name() -> str:
    return f"node-{new_id()}"


async def refusal(settings) -> str:
    with pytest.raises(NotAMember) as refused:
        async with membership(settings):
            pytest.fail("It was let in.")
    return str(refused.value)


async def test_who_has_joined_reaches_postgres_and_redis_and_starts_again_without_the_token(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    first = machine(tmp_path, await gateway.token(), a_name())
    name = first.node_name
    for settings in (first, first.model_copy(update={"join": ""}), first):
        async with membership(settings) as joined, open_resources(joined) as resources:
            assert joined.secret == gateway.settings.secret
            assert joined.url == gateway.settings.url
            assert joined.node == name
            async with resources.database.autocommit() as tx:
                assert await tx.scalar(text("SELECT 1")) == 1
            await resources.redis.set(name, "was here")
    assert await gateway.resources.redis.getdel(name) == "was here"


async def test_what_a_node_keeps_is_for_nobody_else_to_read(gateway: GatewayProcess, tmp_path: Path) -> None:
    settings = machine(tmp_path, await gateway.token(), a_name())
    async with membership(settings):
        assert (tmp_path / "member.json").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "tunnel").stat().st_mode & 0o777 == 0o700
    assert (gateway.settings.data / "gateway/authority.pem").stat().st_mode & 0o777 == 0o600


async def test_a_token_is_shown_once_and_kept_as_a_hash(gateway: GatewayProcess) -> None:
    token = await gateway.token()
    async with gateway.resources.database.autocommit() as tx:
        rows = await tokens.list_all(tx)
        events = await tx.all(select(AuditEvent).where(AuditEvent.action == "join_token.create"))
    assert token.secret not in repr(rows) + repr(events)
    assert JoinSecret.parse(str(token)) == token


async def test_joining_and_expelling_are_on_record(gateway: GatewayProcess, tmp_path: Path) -> None:
    settings = machine(tmp_path, await gateway.token(), a_name())
    async with membership(settings):
        pass
    async with gateway.resources.database.transaction() as tx:
        await members.expel(tx, settings.node_name)
    async with gateway.resources.database.autocommit() as tx:
        target = AuditEvent.target == f"node:{settings.node_name}"
        rows = await tx.all(select(AuditEvent).where(target).order_by(AuditEvent.number))
    assert [row.action for row in rows] == ["node.join", "node.expel"]


# --- refused ----------------------------------------------------------------------------------------------------------


async def test_a_token_that_nobody_made_is_refused(gateway: GatewayProcess, tmp_path: Path) -> None:
    invented = replace(await gateway.token(), secret="0" * 40)
    assert "not known here" in await refusal(machine(tmp_path, invented, a_name()))


async def test_a_token_that_has_expired_is_refused(gateway: GatewayProcess, tmp_path: Path) -> None:
    assert "has expired" in await refusal(machine(tmp_path, await gateway.token(-1), a_name()))


async def test_a_revoked_token_is_refused(gateway: GatewayProcess, tmp_path: Path) -> None:
    token = await gateway.token()
    async with gateway.resources.database.transaction() as tx:
        await tokens.revoke(tx, (await tokens.list_all(tx))[0].id)
    assert "is revoked" in await refusal(machine(tmp_path, token, a_name()))


async def test_a_token_for_one_machine_lets_one_in_however_many_come_at_once(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    token = await gateway.token()
    results = await asyncio.gather(*(joining.join(token, a_name()) for _ in range(4)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Refused)]
    assert len(refused) == 3
    assert {str(each) for each in refused} == {
        "This join token has been used up; make another with `millrace join-token create`."
    }


async def test_what_is_no_token_is_said_to_be_none(tmp_path: Path) -> None:
    assert "This is no join token" in await refusal(machine(tmp_path, "mr_0123456789", a_name()))


async def test_a_gateway_with_another_fingerprint_is_told_nothing(gateway: GatewayProcess, tmp_path: Path) -> None:
    token = await gateway.token()
    said = await refusal(machine(tmp_path, replace(token, fingerprint="0" * 64), a_name()))
    assert "is not the one for which this token was made" in said
    async with gateway.resources.database.autocommit() as tx:
        assert (await tokens.list_all(tx))[0].uses == 0
    assert not (tmp_path / "member.json").exists()


async def test_a_gateway_that_shows_the_right_authority_but_is_not_its_own_is_told_nothing(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    """Whoever is in between may repeat what the true gateway says in public, and a node has a certificate, too."""
    node = await joining.join(await gateway.token(), a_name())
    (tmp_path / "node.pem").write_text(node.key + node.certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "node.pem")
    tls.set_alpn_protocols([service.value for service in Service])
    heard = []

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer.get_extra_info("ssl_object").selected_alpn_protocol() == Service.AUTHORITY:
            writer.write(json.dumps({"certificate": node.authority}).encode() + b"\n")
        heard.append(await reader.read())
        writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0, ssl=tls) as impostor:
        port = impostor.sockets[0].getsockname()[1]
        token = replace(await gateway.token(), address=f"127.0.0.1:{port}")
        assert "is not the gateway that this node knows" in await refusal(machine(tmp_path, token, a_name()))
    assert not any(heard)


async def test_a_certificate_of_a_stranger_is_refused(gateway: GatewayProcess, tmp_path: Path) -> None:
    stranger = load_authority(tmp_path)
    key, request = new_request()
    trust = Trust(load_authority(gateway.settings.data).pem, key, stranger.sign_node(request, new_id(), "stranger"))
    for service in (Service.MEMBERSHIP, Service.POSTGRES, Service.REDIS, Service.FILES):
        with pytest.raises((Refused, Unavailable), match="one of another installation"):
            await connect(gateway.address, service, trust)
    assert "Its certificate is not one of this installation" in gateway.log()


async def test_a_certificate_that_has_run_out_is_refused(gateway: GatewayProcess) -> None:
    authority = load_authority(gateway.settings.data)
    key, request = new_request()
    expired = authority.sign_node(request, new_id(), "late", timedelta(seconds=-60))
    with pytest.raises((Refused, Unavailable), match="has expired"):
        await connect(gateway.address, Service.POSTGRES, Trust(authority.pem, key, expired))


async def test_nobody_reaches_a_server_without_a_certificate(gateway: GatewayProcess) -> None:
    trust = Trust(load_authority(gateway.settings.data).pem)
    for service in (Service.POSTGRES, Service.REDIS, Service.FILES):
        with pytest.raises(Refused, match="Only nodes that have joined are let in here"):
            await connect(gateway.address, service, trust)


async def test_a_member_that_was_never_let_in_is_refused(gateway: GatewayProcess) -> None:
    authority = load_authority(gateway.settings.data)
    key, request = new_request()
    trust = Trust(authority.pem, key, authority.sign_node(request, new_id(), "unknown"))
    with pytest.raises(Refused, match="has never joined this installation"):
        await connect(gateway.address, Service.POSTGRES, trust)


async def test_whoever_does_not_speak_tls_is_hung_up_on(gateway: GatewayProcess) -> None:
    host, port = tokens.split_address(gateway.address)
    for words in (b"\x00\x00\x00\x08\x04\xd2\x16/", b"PING\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(words + bytes(64))
        async with asyncio.timeout(30):
            answer = await reader.read()
        assert len(answer) <= 7, "A TLS alert at most."
        writer.close()
    assert "It does not speak TLS 1.3" in gateway.log()


async def test_older_tls_is_refused(gateway: GatewayProcess) -> None:
    host, port = tokens.split_address(gateway.address)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(cadata=load_authority(gateway.settings.data).pem)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(host, port, ssl=old, server_hostname=GATEWAY_NAME)


async def test_a_name_is_given_to_one_machine_until_that_is_expelled(gateway: GatewayProcess, tmp_path: Path) -> None:
    token, name = await gateway.token(max_uses=9), a_name()
    await joining.join(token, name)
    said = await refusal(machine(tmp_path, token, name))
    assert f"A node named {name} has joined already" in said
    assert f"millrace expel {name}" in said
    async with gateway.resources.database.transaction() as tx:
        await members.expel(tx, name)
    await joining.join(token, name)


@pytest.mark.parametrize("name", ["", "-", "a/b", "../x", "a b", "x" * 64, "a\n"])
async def test_a_name_that_could_be_mistaken_is_refused(gateway: GatewayProcess, name: str) -> None:
    with pytest.raises(Refused, match="cannot be the name of a node"):
        await joining.join(await gateway.token(), name)


# --- expelled, renewed ------------------------------------------------------------------------------------------------


async def test_an_expelled_node_loses_its_connections_and_gets_none(gateway: GatewayProcess, tmp_path: Path) -> None:
    settings = machine(tmp_path, await gateway.token(), a_name())

    async def work() -> None:
        async with (
            membership(settings) as joined,
            open_resources(joined) as resources,
            resources.database.autocommit() as tx,
        ):
            await tx.execute(text("SELECT 1"))
            async with gateway.resources.database.transaction() as expelling:
                await members.expel(expelling, settings.node_name)
            await asyncio.Event().wait()

    working = asyncio.create_task(work())

    async def keep_asking() -> None:
        # As a node does with each heartbeat: what it asks for next is refused for good.
        while not working.done():
            await asyncio.sleep(0.2)
            if (tmp_path / "tunnel/redis.sock").exists():
                try:
                    _, writer = await asyncio.open_unix_connection(str(tmp_path / "tunnel/redis.sock"))
                except OSError:
                    continue
                writer.close()

    async with asyncio.timeout(30):
        await keep_asking()
    with pytest.raises(NotAMember, match="has been expelled"):
        await working
    assert "has been expelled" in await refusal(settings.model_copy(update={"join": ""}))


async def test_an_expelled_node_is_let_in_again_with_a_new_token(gateway: GatewayProcess, tmp_path: Path) -> None:
    settings = machine(tmp_path, await gateway.token(), a_name())
    async with membership(settings):
        pass
    async with gateway.resources.database.transaction() as tx:
        await members.expel(tx, settings.node_name)
    assert "has been used up" in await refusal(settings)
    async with membership(settings.model_copy(update={"join": str(await gateway.token())})) as joined:
        assert joined.node == settings.node_name


async def test_a_certificate_is_renewed_a_month_before_it_runs_out(gateway: GatewayProcess, tmp_path: Path) -> None:
    settings = machine(tmp_path, await gateway.token(), a_name())
    async with membership(settings):
        pass
    kept = Credentials.load(settings)
    assert kept is not None
    assert (await joining.refresh(kept)).certificate == kept.certificate
    async with gateway.resources.database.autocommit() as tx:
        member = next(row for row in await members.list_all(tx) if row.name == settings.node_name)
    authority = load_authority(gateway.settings.data)
    key, request = new_request()
    old = authority.sign_node(request, member.id, member.name, timedelta(days=29))
    replace(kept, key=key, certificate=old).save(settings)
    async with membership(settings.model_copy(update={"join": ""})):
        pass
    renewed = Credentials.load(settings)
    assert renewed is not None
    assert renewed.key not in (key, kept.key)
    assert expiry(renewed.certificate) - now() > timedelta(days=80)
    assert await joining.refresh(renewed) == renewed


async def test_a_node_whose_gateway_is_away_waits_for_it(gateway: GatewayProcess, tmp_path: Path) -> None:
    settings = machine(tmp_path, await gateway.token(), a_name())
    async with membership(settings):
        pass
    port = free_port()
    away = settings.model_copy(update={"gateway_address": f"127.0.0.1:{port}"})

    async def work() -> str:
        async with membership(away) as joined:
            return joined.installation

    working = asyncio.create_task(work())
    await asyncio.sleep(1)
    assert not working.done()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await exchange((reader, writer), await asyncio.open_connection(*tokens.split_address(gateway.address)))

    async with await asyncio.start_server(relay, "127.0.0.1", port), asyncio.timeout(30):
        assert await working == gateway.settings.installation


async def test_a_machine_that_finds_no_gateway_says_so(gateway: GatewayProcess, tmp_path: Path) -> None:
    token = replace(await gateway.token(), address="127.0.0.1:1")
    assert re.search("127.0.0.1:1 cannot be reached", await refusal(machine(tmp_path, token, a_name())))
    with pytest.raises(Unavailable):
        await joining.join(token, a_name())
