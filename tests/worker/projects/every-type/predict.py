"""One input of every kind that classic and new Cog both know, spelt as models of every age spell them."""
# ruff: noqa: UP006, UP007, UP035, UP045

from typing import List, Optional, Union

from cog import BaseModel, BasePredictor, File, Input, Path, Secret


class Inner(BaseModel):
    label: str
    score: float


class Output(BaseModel):
    name: str
    count: int
    picture: Path
    tags: List[str]
    maybe: Optional[str] = None


class Predictor(BasePredictor):
    def predict(
        self,
        text: str,
        described: str = Input(description="With a description"),
        defaulted: str = Input(default="hello", description="Defaulted"),
        raw_default: str = "raw",
        bounded: int = Input(default=50, ge=1, le=100),
        fraction: float = Input(default=0.5, ge=0, le=1.5),
        flag: bool = True,
        short: str = Input(default="abc", min_length=2, max_length=8),
        pattern: str = Input(default="a1", regex="^[a-z][0-9]$"),
        size: str = Input(default="small", choices=["small", "large"], description="Which"),
        steps: int = Input(default=4, choices=[1, 2, 4]),
        needed_choice: str = Input(choices=["x", "y"]),
        image: Path = Input(description="A picture"),
        old_file: File = Input(description="Old"),
        mask: Optional[Path] = Input(default=None, description="Optional picture"),
        seed: Optional[int] = None,
        other_seed: Optional[int] = Input(description="Optional without a default"),
        key: Secret = Input(description="A key"),
        names: List[str] = Input(description="Names"),
        numbers: List[int] = Input(default=[1, 2]),
        images: List[Path] = Input(description="Pictures"),
        either: Union[str, int] = Input(default="x"),
        obsolete: str = Input(default="", deprecated=True),
    ) -> Output:
        raise NotImplementedError
