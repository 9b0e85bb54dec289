"""Images made by hand in a registry, manifest by manifest, as no engine would push them."""

import hashlib
import json
from typing import Any

import aiohttp

from worker.registry import MANIFEST_TYPES


class Repository:
    """Pushes hand-made images as a client does: blobs first, then manifests."""

    def __init__(self, host: str, name: str) -> None:
        self.reference = f"{host}/{name}"
        self._url = f"http://{host}/v2/{name}"

    async def push_image(self, tag: str, labels: dict[str, str], **config: Any) -> dict[str, Any]:
        """Its descriptor, as an index names it."""
        blob = json.dumps({"os": "linux", "architecture": "amd64", "config": {"Labels": labels}, **config}).encode()
        await self.push_blob(blob)
        config_type = "application/vnd.oci.image.config.v1+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPES[0],
            "config": {"mediaType": config_type, "digest": digest_of(blob), "size": len(blob)},
            "layers": [],
        }
        return await self.push_manifest(tag, manifest)

    async def push_manifest(self, tag: str, manifest: dict[str, Any]) -> dict[str, Any]:
        body, media_type = json.dumps(manifest).encode(), manifest["mediaType"]
        async with (
            aiohttp.ClientSession() as http,
            http.put(f"{self._url}/manifests/{tag}", data=body, headers={"Content-Type": media_type}) as response,
        ):
            assert response.status == 201, await response.text()
        return {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}

    async def push_blob(self, blob: bytes) -> str:
        """Its digest."""
        async with aiohttp.ClientSession() as http:
            async with http.post(f"{self._url}/blobs/uploads/") as response:
                location = response.headers["Location"]
            separator = "&" if "?" in location else "?"
            async with http.put(f"{location}{separator}digest={digest_of(blob)}", data=blob) as response:
                assert response.status == 201, await response.text()
        return digest_of(blob)

    async def manifest_size(self, digest: str) -> int:
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self._url}/manifests/{digest}", headers=headers) as response,
        ):
            assert response.status == 200, await response.text()
            return len(await response.read())


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
