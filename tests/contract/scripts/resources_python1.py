"""Models, deployments, trainings and collections with the Python client 1.x. The last line is the result."""
# ruff: noqa: T201

import json
import sys
from io import BytesIO

import replicate
from replicate.exceptions import ReplicateError


def models(owner: str, name: str) -> dict:
    created = replicate.models.create(owner=owner, name=name, visibility="private", hardware="cpu", description="Mine")
    listed = [model.id for page in replicate.paginate(replicate.models.list) for model in page]
    found = [model.id for model in replicate.models.search(name)]
    deleted = replicate.models.delete(f"{owner}/{name}")
    return {
        "created": [created.id, created.visibility, created.description],
        "listed": created.id in listed,
        "found": created.id in found,
        "deleted": deleted,
        "after": refused(lambda: replicate.models.get(f"{owner}/{name}")),
    }


def bad_hardware(owner: str, name: str) -> dict:
    return refused(lambda: replicate.models.create(owner=owner, name=name, visibility="private", hardware="abacus"))


def deployments(owner: str, name: str, model: str, version: str, input: dict) -> dict:
    created = replicate.deployments.create(
        name=name, model=model, version=version, hardware="cpu", min_instances=0, max_instances=1
    )
    prediction = replicate.deployments.get(f"{owner}/{name}").predictions.create(input=input)
    prediction.wait()
    updated = replicate.deployments.update(deployment_owner=owner, deployment_name=name, max_instances=2)
    return {
        "created": [created.id, created.current_release.number, created.current_release.model],
        "creator": created.current_release.created_by.username,
        "listed": created.id in [deployment.id for deployment in replicate.deployments.list()],
        "output": prediction.output,
        "updated": [updated.current_release.number, updated.current_release.configuration.max_instances],
        "deleted": refused(lambda: replicate.deployments.delete(owner, name)),
    }


def trainings(model: str, version: str, destination: str) -> dict:
    def train(to: str) -> object:
        return replicate.trainings.create(model=model, version=version, input={}, destination=to)

    return {
        "untrainable": refused(lambda: train(destination)),
        "nowhere": refused(lambda: train("nobody/nothing")),
        "listed": [training.id for training in replicate.trainings.list()],
        "got": refused(lambda: replicate.trainings.get("none")),
        "canceled": refused(lambda: replicate.trainings.cancel("none")),
    }


def collections(slug: str) -> dict:
    got = replicate.collections.get(slug)
    return {
        "listed": slug in [collection.slug for collection in replicate.collections.list()],
        "got": [got.name, got.description],
        "models": [model.id for model in got],
    }


def create(version: str, input: dict) -> dict:
    return refused(lambda: replicate.predictions.create(version=version, input=input))


def upload(size: int) -> dict:
    return refused(lambda: replicate.files.create(BytesIO(bytes(size))))


def find(id: str) -> dict:
    return refused(lambda: replicate.predictions.get(id))


def refused(call: object) -> dict:
    try:
        call()
    except ReplicateError as error:
        return {"status": error.status, "detail": error.detail}
    raise AssertionError("It should have been refused.")


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2])), default=str))
