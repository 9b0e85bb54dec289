"""What a user of the Python client 2.x does. Runs in that client's own environment; the last line is the result."""
# ruff: noqa: T201

import json
import sys
from pathlib import Path

import replicate
from replicate import Replicate


def run(model: str, input: dict) -> object:
    return replicate.run(model, input=input)


def run_impatiently(model: str, input: dict, seconds: float) -> object:
    """Gives up waiting for an answer so early that it posts again."""
    return Replicate(timeout=seconds).run(model, input=input)


def use(model: str, input: dict) -> object:
    return replicate.use(model)(**input)


def stream(model: str, input: dict) -> list[str]:
    return [str(chunk) for chunk in replicate.stream(model, input=input)]


def with_file(model: str, path: str) -> object:
    with Path(path).open("rb") as file:
        return replicate.run(model, input={"file": file})


def create_and_cancel(model: str, input: dict) -> list[str]:
    client = Replicate()
    created = client.predictions.create(version=model, input=input, cancel_after="5m")
    canceled = client.predictions.cancel(prediction_id=created.id)
    return [created.status, canceled.status, client.predictions.get(prediction_id=created.id).status]


def look_around(model: str) -> dict:
    client = Replicate()
    owner, name = model.split("/")
    file = client.files.create(content=b"hello", filename="hello.txt", metadata={"k": "v"})
    try:
        return {
            "model": client.models.get(model_owner=owner, model_name=name).name,
            "account": client.account.get().username,
            "hardware": [item.sku for item in client.hardware.list()],
            "predictions": len([item.id for item in client.predictions.list()]),
            "file": [file.name, file.metadata],
        }
    finally:
        client.files.delete(file_id=file.id)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2])), default=str))
