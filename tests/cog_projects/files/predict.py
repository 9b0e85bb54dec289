"""Reads one file and writes several that share a basename, each in a folder of its own.

Whoever stores outputs by basename alone loses all but one of them.
"""

import hashlib
import tempfile

from cog import BaseModel, BasePredictor, Input, Path


class Output(BaseModel):
    sha256: str
    files: list[Path]


class Predictor(BasePredictor):
    def predict(
        self,
        file: Path = Input(description="Any file; its SHA-256 is returned."),
        count: int = Input(default=2, ge=0, description="How many files to write."),
    ) -> Output:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return Output(sha256=digest, files=[write_numbered(index) for index in range(count)])


def write_numbered(index: int) -> Path:
    path = Path(tempfile.mkdtemp(prefix="files-")) / "output.txt"
    path.write_text(f"file {index}\n")
    return Path(path)
