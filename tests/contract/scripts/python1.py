"""What a user of the Python client 1.x does. Runs in that client's own environment; the last line is the result."""
# ruff: noqa: T201

import asyncio
import base64
import json
import sys
import time
from pathlib import Path

import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.webhook import InvalidSignatureError, Webhooks, WebhookSigningSecret


def run(model: str, input: dict) -> object:
    return replicate.run(model, input=input)


def run_by_version(model: str, input: dict) -> object:
    latest = replicate.models.get(model).latest_version
    return replicate.run(f"{model}:{latest.id}", input=input)


def run_for_files(model: str, input: dict) -> list:
    """What kind each output is, and its bytes."""
    outputs = replicate.run(model, input=input)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [[type(output).__name__, base64.b64encode(output.read()).decode()] for output in outputs]


def stream(model: str, input: dict) -> list[list[str]]:
    return [[event.event.value, event.data] for event in replicate.stream(model, input=input)]


def iterate(model: str, input: dict) -> list[str]:
    """By version, `run` gives an iterator of what comes."""
    latest = replicate.models.get(model).latest_version
    return [str(chunk) for chunk in replicate.run(f"{model}:{latest.id}", input=input)]


def create_poll_cancel(model: str, input: dict) -> list[str]:
    version = replicate.models.get(model).latest_version
    prediction = replicate.predictions.create(version=version, input=input)
    statuses = [prediction.status]
    deadline = time.monotonic() + 60
    while prediction.status != "processing" and time.monotonic() < deadline:
        time.sleep(0.1)
        prediction.reload()
    statuses.append(prediction.status)
    prediction.cancel()
    prediction.wait()
    return [*statuses, prediction.status]


def run_async(model: str, input: dict) -> object:
    return asyncio.run(replicate.async_run(model, input=input))


def with_file(model: str, path: str) -> object:
    with Path(path).open("rb") as file:
        return replicate.run(model, input={"file": file})


def fail(model: str, input: dict) -> dict:
    try:
        replicate.run(model, input=input)
    except ModelError as error:
        return {"message": str(error), "status": error.prediction.status, "logs": error.prediction.logs}
    raise AssertionError("It should have failed.")


def refuse(model: str, input: dict) -> dict:
    try:
        replicate.run(model, input=input)
    except ReplicateError as error:
        return {"status": error.status, "title": error.title, "detail": error.detail}
    raise AssertionError("It should have been refused.")


def look_around(model: str) -> dict:
    found = replicate.models.get(model)
    versions = found.versions.list()
    version = found.versions.get(found.latest_version.id)
    return {
        "model": found.id,
        "models": [item.id for item in replicate.models.list()],
        "versions": [item.id for item in versions],
        "version": version.id,
        "properties": sorted(version.openapi_schema["components"]["schemas"]["Input"]["properties"]),
        "hardware": [item.sku for item in replicate.hardware.list()],
        "account": replicate.Client().accounts.current().username,
        "secret": replicate.webhooks.default.secret().key,
    }


def handle_files(path: str) -> dict:
    created = replicate.files.create(Path(path), metadata={"k": "v"})
    got = replicate.files.get(created.id)
    listed = [file.id for file in replicate.files.list()]
    replicate.files.delete(created.id)
    return {
        "same": got.id == created.id,
        "listed": created.id in listed,
        "name": got.name,
        "size": got.size,
        "metadata": got.metadata,
        "left": created.id in [file.id for file in replicate.files.list()],
    }


def list_all() -> list[list[str]]:
    """The ids of each page."""
    return [[item.id for item in page] for page in replicate.paginate(replicate.predictions.list)]


def validate(id: str, timestamp: str, signature: str, body: str, secret: str) -> bool:
    headers = {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    try:
        Webhooks.validate(headers=headers, body=body, secret=WebhookSigningSecret(key=secret), tolerance=300)
    except InvalidSignatureError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2])), default=str))
