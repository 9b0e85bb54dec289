"""Our OpenAPI document says what the original's says, by the same names, and all that may go wrong besides.

`original.json` holds what the original's document (version 1.0.0-a1) says of each of its 37 operations: its path, its
parameters, and every property of its answer, as `results[].urls.get`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.settings import Settings

ORIGINAL: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "original.json").read_text())
METHODS = ("get", "put", "post", "delete", "patch", "query")
PROBLEM = "application/problem+json"


@pytest.fixture
async def document(anonymous: httpx.AsyncClient) -> dict[str, Any]:
    return (await anonymous.get("/v1/openapi.json")).json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        yield from ((path, method, item[method]) for method in METHODS if method in item)


def resolve(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        reference, node = node["$ref"], document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    return node


def objects(document: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a schema may be, null left out."""
    schema = resolve(document, schema)
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    return [found for choice in choices for found in objects(document, choice)] if choices else [schema]


def finds(document: dict[str, Any], schema: dict[str, Any], path: list[str], is_required: bool) -> bool:
    if not path:
        return True
    name, *rest = path
    inners = [
        inner["items"] if name == "[]" else inner["properties"][name]
        for inner in objects(document, schema)
        if (name == "[]" and "items" in inner)
        or (name in inner.get("properties", {}) and (rest or not is_required or name in inner.get("required", ())))
    ]
    return any(finds(document, inner, rest, is_required) for inner in inners)


def parts(path: str) -> list[str]:
    return [part for part in re.split(r"\.|(\[\])", path) if part]


@pytest.mark.parametrize("name", ORIGINAL)
def test_an_operation_of_the_original_is_here_as_it_is_there(document: dict[str, Any], name: str) -> None:
    theirs = ORIGINAL[name]
    ours = document["paths"][theirs["path"]][theirs["method"]]
    assert ours["operationId"] == name
    parameters = {f"{parameter['in']} {parameter['name']}" for parameter in ours.get("parameters", ())}
    assert set(theirs["parameters"]) <= parameters
    assert set(theirs["body"]) <= set(ours.get("requestBody", {}).get("content", {}))
    for status, kinds in theirs["success"].items():
        content = ours["responses"][status].get("content", {})
        assert kinds in (sorted(content), ["application/octet-stream"])
        for is_required in (True, False):
            missing = [
                path
                for path in theirs["required" if is_required else "optional"]
                if not finds(document, content["application/json"]["schema"], parts(path), is_required)
            ]
            assert not missing, f"{status}, required: {is_required}"


async def test_every_operation_has_a_name_a_tag_and_a_sentence(document: dict[str, Any]) -> None:
    told = {tag["name"] for tag in document["tags"] if tag["description"]}
    wrong = [
        f"{method} {path}"
        for path, method, operation in operations(document)
        if not re.fullmatch(r"[a-z]+(\.[a-z]+)*", operation["operationId"])
        or not set(operation["tags"]) <= told
        or operation.get("description", "Needs the scope").startswith("Needs the scope")
    ]
    assert not wrong
    names = [operation["operationId"] for *_, operation in operations(document)]
    assert len(names) == len(set(names))


async def test_every_answer_has_a_shape(document: dict[str, Any]) -> None:
    wrong = [
        f"{operation['operationId']} {status}"
        for *_, operation in operations(document)
        for status, response in operation["responses"].items()
        if status != "204"
        for kind, content in (resolve(document, response).get("content") or {"nothing": {}}).items()
        if "schema" not in content or (kind == "application/json" and not content["schema"])
    ]
    # This one has nothing to say but that it goes on by itself.
    assert [name for name in wrong if name != "models.versions.delete 202"] == []


async def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    wrong = [
        f"{operation['operationId']} {status}"
        for *_, operation in operations(document)
        for status, response in operation["responses"].items()
        if int(status) >= 400
        and resolve(document, response)["content"][PROBLEM]["schema"] != {"$ref": "#/components/schemas/Problem"}
    ]
    assert not wrong
    assert "HTTPValidationError" not in json.dumps(document)
    problem = document["components"]["schemas"]["Problem"]
    assert problem["required"] == ["title", "detail", "status"]
    assert problem["properties"]["detail"]["type"] == "string"


async def test_errors_follow_from_what_an_operation_asks_for(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        found = set(operation["responses"])
        assert {"500", "503"} <= found
        if operation["security"] and {} not in operation["security"]:
            assert {"401", "403", "429"} <= found, operation["operationId"]
            assert re.search(r"Needs the scope `\w+`\.", operation["description"])
        assert ("404" in found) >= ("{" in path), operation["operationId"]
        assert ({"400", "413", "415"} <= found) == ("requestBody" in operation), operation["operationId"]
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ())):
            assert "409" in found
    create = document["paths"]["/predictions"]["post"]
    assert "402" in create["responses"]
    assert set(create["responses"]["202"]["headers"]) >= {"Preference-Applied", "Idempotent-Replayed"}
    assert "Millrace-Cache" in create["responses"]["201"]["headers"]


async def test_an_operation_that_needs_no_token_says_so(document: dict[str, Any]) -> None:
    assert document["paths"]["/files/{file_id}/download"]["get"]["security"] == []
    assert document["paths"]["/account"]["get"]["security"] == [{"bearerAuth": ["read"]}]
    assert document["security"] == [{"bearerAuth": []}]


async def test_a_summary_is_a_name_that_a_reader_finds(document: dict[str, Any]) -> None:
    summaries = {operation["operationId"]: operation["summary"] for *_, operation in operations(document)}
    assert summaries["models.versions.list"] == "List model versions"
    assert summaries["webhooks.deliveries.get"] == "Get webhook delivery"
    assert len(set(summaries.values())) == len(summaries)


async def test_a_tool_in_a_browser_elsewhere_may_read_it(anonymous: httpx.AsyncClient, api: Settings) -> None:
    answer = await anonymous.get("/v1/openapi.json")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json()["servers"] == [{"url": f"{api.url}/v1"}]


async def test_aliases_of_paths_are_in_no_document(document: dict[str, Any]) -> None:
    assert not [path for path in document["paths"] if path.startswith("/v1") or "http" in path]


async def test_examples_of_problems_are_problems(document: dict[str, Any]) -> None:
    for name, response in document["components"]["responses"].items():
        examples = response["content"][PROBLEM]["examples"]
        assert examples, name
        for example in examples.values():
            assert {"title", "detail", "status"} <= set(example["value"])
