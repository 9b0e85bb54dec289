"""What only the newest Cog knows: run(), dicts, nullable unions, opaque types, nested outputs, decorators."""

from typing import Annotated, Any, Literal, TypedDict

from cog import BaseModel, BaseRunner, Input, Opaque, Path, Secret, concurrent


class Box(TypedDict):
    left: int
    label: str


class Region(BaseModel):
    box: Box
    scores: dict[str, float]
    parent: "Region | None" = None


class Output(BaseModel):
    regions: list[Region]
    mask: Path | None
    note: str = ""


class Runner(BaseRunner):
    @concurrent(max=3)
    async def run(
        self,
        image: Path = Input(description="A picture", accept="image/*"),
        options: dict[str, Any] = Input(default=None),
        settings: dict = {},  # noqa: B006 (only its schema matters)
        boxes: list[Box] = Input(description="Where to look"),
        size: str | int | None = Input(default=None),
        key: Secret = Input(default=None, description="Falls back to ours"),
        needed_key: Secret = Input(description="Has no fallback"),
        runtime_seed: int = Input(default=None),
        mode: Literal["fast", "good"] = "fast",
        anything: Annotated[object, Opaque] = Input(description="Passed through"),
    ) -> Output:
        raise NotImplementedError
