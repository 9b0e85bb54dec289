"""Models, deployments, trainings and collections with the Python client 2.x. The last line is the result."""
# ruff: noqa: T201

import json
import sys

from replicate import APIStatusError, Replicate

replicate = Replicate()


def models(owner: str, name: str) -> dict:
    created = replicate.models.create(owner=owner, name=name, visibility="private", hardware="cpu", description="Mine")
    listed = [f"{model.owner}/{model.name}" for model in replicate.models.list()]
    found = [f"{model.owner}/{model.name}" for model in replicate.models.search(body=name)]
    replicate.models.delete(model_owner=owner, model_name=name)
    id = f"{created.owner}/{created.name}"
    return {
        "created": [id, created.visibility, created.description],
        "listed": id in listed,
        "found": id in found,
        "deleted": True,
        "after": refused(lambda: replicate.models.get(model_owner=owner, model_name=name)),
    }


def bad_hardware(owner: str, name: str) -> dict:
    return refused(lambda: replicate.models.create(owner=owner, name=name, visibility="private", hardware="abacus"))


def deployments(owner: str, name: str, model: str, version: str, input: dict) -> dict:
    created = replicate.deployments.create(
        name=name, model=model, version=version, hardware="cpu", min_instances=0, max_instances=1
    )
    path = {"deployment_owner": owner, "deployment_name": name}
    prediction = replicate.deployments.predictions.create(**path, input=input, prefer="wait")
    updated = replicate.deployments.update(**path, max_instances=2)
    release = created.current_release
    return {
        "created": [f"{created.owner}/{created.name}", release.number, release.model],
        "creator": release.created_by.username,
        "listed": name in [deployment.name for deployment in replicate.deployments.list()],
        "output": prediction.output,
        "updated": [updated.current_release.number, updated.current_release.configuration.max_instances],
        "deleted": refused(lambda: replicate.deployments.delete(**path)),
    }


def trainings(model: str, version: str, destination: str) -> dict:
    owner, name = model.split("/")

    def train(to: str) -> object:
        path = {"model_owner": owner, "model_name": name, "version_id": version}
        return replicate.trainings.create(**path, input={}, destination=to)

    return {
        "untrainable": refused(lambda: train(destination)),
        "nowhere": refused(lambda: train("nobody/nothing")),
        "listed": [training.id for training in replicate.trainings.list()],
        "got": refused(lambda: replicate.trainings.get(training_id="none")),
        "canceled": refused(lambda: replicate.trainings.cancel(training_id="none")),
    }


def collections(slug: str) -> dict:
    got = replicate.collections.get(collection_slug=slug)
    return {
        "listed": slug in [collection.slug for collection in replicate.collections.list()],
        "got": [got.name, got.description],
        "models": [f"{model.owner}/{model.name}" for model in got.models],
    }


def search(query: str) -> list[str]:
    """Only this client has it."""
    return [f"{found.model.owner}/{found.model.name}" for found in replicate.search(query=query).models]


def readme_and_examples(owner: str, name: str) -> dict:
    """Only this client has them."""
    path = {"model_owner": owner, "model_name": name}
    replicate.models.create(owner=owner, name=name, visibility="private", hardware="cpu")
    replicate.models.update(**path, readme="# Hello", description="Changed")
    return {
        "readme": replicate.models.readme.get(**path),
        "description": replicate.models.get(**path).description,
        "examples": [example.id for example in replicate.models.examples.list(**path)],
    }


def create(version: str, input: dict) -> dict:
    # It would wait for as long as it is told, and try again.
    return refused(lambda: replicate.with_options(max_retries=0).predictions.create(version=version, input=input))


def upload(size: int) -> dict:
    return refused(lambda: replicate.files.create(content=bytes(size)))


def find(id: str) -> dict:
    return refused(lambda: replicate.predictions.get(prediction_id=id))


def refused(call: object) -> dict:
    try:
        call()
    except APIStatusError as error:
        return {"status": error.status_code, "detail": error.body["detail"]}
    raise AssertionError("It should have been refused.")


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2])), default=str))
