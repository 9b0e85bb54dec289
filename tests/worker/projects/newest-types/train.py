from cog import BaseModel, Path


class TrainingOutput(BaseModel):
    weights: Path


def train(data: Path, steps: int = 10) -> TrainingOutput:
    raise NotImplementedError
