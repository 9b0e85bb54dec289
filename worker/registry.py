"""Reads what a Version needs from an image in a registry, over HTTP, without pulling it.

Knows the distribution protocol and Cog's labels; nothing of Docker engines. Registries on loopback speak plain http,
all others https. Everything fetched is checked against its digest. A reference makes this process open a connection to
the host it names, so only accounts that may publish images should get here.
"""

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from worker.runtimes.base import ArtifactUnavailable
from worker.weights import ARTIFACT_TYPE, BadTarget, Weights, check

# A registry answers at once; the manifest and config of an image are kilobytes.
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
# Schemas live in labels, so a config may be large, but not like this.
DOCUMENT_BYTES = 16 * 1024 * 1024

PLATFORM = ("linux", "amd64")
MANIFEST_TYPES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")

# Cog wrote its labels under another prefix until 0.3.
CONFIG_LABELS = ("run.cog.config", "org.cogmodel.config")
SCHEMA_LABELS = ("run.cog.openapi_schema", "org.cogmodel.openapi_schema")
# These hold the version of the CLI; what is installed in the image may be another, so they come second.
CLI_VERSION_LABELS = ("run.cog.version", "org.cogmodel.cog_version")
PIP_FREEZE_LABEL = "run.cog.pip_freeze"

_REFERENCE = re.compile(
    r"(?P<host>localhost|[\w-]*[.:][\w.:-]*|\[[0-9a-f:]+\](?::\d+)?)"
    r"/(?P<repository>[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_FROZEN_COG = re.compile(r"^cog(?:==| @ \S*?cog-)(\d+(?:\.\w+)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ImageArtifact:
    """`reference` is pinned by digest. `cog_version` is that of the SDK in the image, or None where no label tells.
    `weights` are in the same repository, where Cog keeps them beside the image."""

    reference: str
    config: dict[str, Any]
    openapi_schema: dict[str, Any]
    cog_version: str | None
    weights: tuple[Weights, ...] = ()


async def image_artifact(reference: str) -> ImageArtifact:
    """The Cog labels of the image, for linux/amd64. Raises ArtifactUnavailable with a sentence."""
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        raise ArtifactUnavailable(f"{reference!r} is not an image of a registry: write it as host/owner/name:tag.")
    async with aiohttp.ClientSession(timeout=REQUEST_TIMEOUT) as http:
        repository = _Repository(http, parts["host"], parts["repository"])
        digest, manifest, weights = await repository.image_manifest(parts["digest"] or parts["tag"] or "latest")
        config = await repository.image_config(manifest)
    labels = (config.get("config") or {}).get("Labels") or {}
    return ImageArtifact(
        reference=f"{parts['host']}/{parts['repository']}@{digest}",
        config=_json_label(labels, CONFIG_LABELS, reference),
        openapi_schema=_json_label(labels, SCHEMA_LABELS, reference),
        cog_version=_cog_version(labels),
        weights=weights,
    )


def blob_url(reference: str, digest: str) -> str:
    """Of a part of the image that `reference` names, or of what is beside it."""
    parts = _REFERENCE.fullmatch(reference)
    return f"{_scheme(parts['host'])}://{parts['host']}/v2/{parts['repository']}/blobs/{digest}"


class _Repository:
    """One repository of one registry."""

    def __init__(self, http: aiohttp.ClientSession, host: str, name: str) -> None:
        self._http = http
        self._host = host
        self._name = name
        self._url = f"{_scheme(host)}://{host}/v2/{name}"

    async def image_manifest(self, tag_or_digest: str) -> tuple[str, dict[str, Any], tuple[Weights, ...]]:
        """The manifest for our platform with its digest, and the weights beside it, for which Cog pushes an index."""
        digest, document = await self._manifest(tag_or_digest)
        weights: tuple[Weights, ...] = ()
        if document.get("mediaType") in INDEX_TYPES or "manifests" in document:
            weights = await self._weights(document)
            digest, document = await self._manifest(self._for_platform(document))
        if "config" not in document:
            raise ArtifactUnavailable(f"{self} holds something that is not an image: push it again with a current Cog.")
        return digest, document, weights

    async def image_config(self, manifest: dict[str, Any]) -> dict[str, Any]:
        digest = manifest["config"]["digest"]
        return self._parse(await self._get(f"blobs/{digest}", digest))

    async def _weights(self, index: dict[str, Any]) -> tuple[Weights, ...]:
        entries = [entry for entry in index.get("manifests", []) if entry.get("artifactType") == ARTIFACT_TYPE]
        try:
            found = tuple([Weights.of_manifest((await self._manifest(entry["digest"]))[1]) for entry in entries])
            check(found)
        except BadTarget as error:
            raise ArtifactUnavailable(
                f"{self} has weights for {str(error)!r}, where none can be: give them a folder of their own in cog.yaml"
            ) from error
        return found

    async def _manifest(self, tag_or_digest: str) -> tuple[str, dict[str, Any]]:
        expected = tag_or_digest if tag_or_digest.startswith("sha256:") else None
        content = await self._get(f"manifests/{tag_or_digest}", expected)
        return _digest(content), self._parse(content)

    def _parse(self, content: bytes) -> dict[str, Any]:
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise ArtifactUnavailable(f"{self} is described by something that is not JSON: push it again.") from error

    def _for_platform(self, index: dict[str, Any]) -> str:
        for entry in index.get("manifests", []):
            platform = entry.get("platform") or {}
            if (platform.get("os"), platform.get("architecture")) == PLATFORM:
                return entry["digest"]
        raise ArtifactUnavailable(f"{self} has no image for {'/'.join(PLATFORM)}: build it for that platform.")

    async def _get(self, path: str, digest: str | None) -> bytes:
        headers = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}
        try:
            async with self._http.get(f"{self._url}/{path}", headers=headers) as response:
                self._check(response, path)
                content = await self._read(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ArtifactUnavailable(f"The registry {self._host} does not answer: {error or 'timed out'}.") from error
        if digest and _digest(content) != digest:
            raise ArtifactUnavailable(f"{self} sent other content for {path} than its digest promises: push it again.")
        return content

    def _check(self, response: aiohttp.ClientResponse, path: str) -> None:
        if response.status in (401, 403):
            raise ArtifactUnavailable(
                f"The registry {self._host} asks for a login to read {self._name}; Millrace reads only images that "
                f"need none: make the repository readable, or push the image to a registry of your own."
            )
        if response.status == 404:
            raise ArtifactUnavailable(f"The registry {self._host} has no {path} in {self._name}: push the image first.")
        if response.status != 200:
            raise ArtifactUnavailable(f"The registry {self._host} answered {response.status} for {path}: try again.")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_chunked(65536):
            content += chunk
            if len(content) > DOCUMENT_BYTES:
                raise ArtifactUnavailable(
                    f"{self} describes itself in over {DOCUMENT_BYTES} bytes: that is no Cog image."
                )
        return bytes(content)

    def __str__(self) -> str:
        return f"The image {self._host}/{self._name}"


def _scheme(host: str) -> str:
    """Docker's own rule: plain http to loopback only."""
    name = host.rpartition(":")[0] or host
    if name == "localhost":
        return "http"
    try:
        return "http" if ipaddress.ip_address(name.strip("[]")).is_loopback else "https"
    except ValueError:
        return "https"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json_label(labels: dict[str, str], names: tuple[str, ...], reference: str) -> dict[str, Any]:
    text = next((labels[name] for name in names if labels.get(name)), None)
    if text is None:
        raise ArtifactUnavailable(f"The image {reference} has no label {names[0]}: build it with `cog build`.")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ArtifactUnavailable(f"The label {names[0]} of {reference} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ArtifactUnavailable(
            f"The label {names[0]} of {reference} is not a JSON object: build it with `cog build`."
        )
    return value


def _cog_version(labels: dict[str, str]) -> str | None:
    frozen = _FROZEN_COG.search(labels.get(PIP_FREEZE_LABEL, ""))
    if frozen:
        return frozen[1]
    return next((labels[name] for name in CLI_VERSION_LABELS if labels.get(name)), None)
