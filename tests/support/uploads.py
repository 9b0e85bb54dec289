"""What a node does with files, kept in memory: the two seams of the endpoint."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from worker.endpoint import UploadRefused


@dataclass(frozen=True, slots=True)
class Upload:
    instance_id: str
    prediction_id: str | None
    filename: str
    content_type: str
    content: bytes


@dataclass(slots=True)
class Uploads:
    """Locations are `store://<number>`, so that a test can find an upload again by what the model returned."""

    stored: dict[str, Upload] = field(default_factory=dict)
    inputs: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    largest: int = 1 << 30

    async def save(
        self, instance_id: str, prediction_id: str | None, filename: str, content_type: str, body: AsyncIterator[bytes]
    ) -> str:
        content = b""
        async for chunk in body:
            content += chunk
            if len(content) > self.largest:
                raise UploadRefused(f"{filename} is larger than {self.largest} bytes.")
        location = f"store://{len(self.stored)}"
        self.stored[location] = Upload(instance_id, prediction_id, filename, content_type, content)
        return location

    async def open_input(self, token: str) -> tuple[str, int, AsyncIterator[bytes]] | None:
        if token not in self.inputs:
            return None
        content_type, content = self.inputs[token]

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(content), 64 * 1024):
                yield content[start : start + 64 * 1024]

        return content_type, len(content), chunks()
