"""What a model is given: only what its schema knows, every failing field named, no value ever quoted."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Invalid, InvalidField, InvalidInput
from core.inputs import InputSchema

FILE = {"type": "string", "format": "uri"}
SECRET = {"type": "string", "format": "password", "writeOnly": True, "x-cog-secret": True}


def schema(required: tuple[str, ...] = (), components: dict[str, Any] | None = None, **properties: Any) -> InputSchema:
    input = {"type": "object", "title": "Input", "properties": properties, "required": list(required)}
    return InputSchema({"components": {"schemas": {"Input": input, **(components or {})}}})


def refused(schema: InputSchema, **given: Any) -> list[InvalidField]:
    with pytest.raises(InvalidInput) as caught:
        schema.prepare(given)
    assert caught.value.detail == "".join(field.line() for field in caught.value.fields)
    return caught.value.fields


# --- what is dropped --------------------------------------------------------------------------------------------------


def test_without_a_schema_the_input_is_taken_as_it_is() -> None:
    assert InputSchema(None).prepare({"anything": [1, None]}) == {"anything": [1, None]}


def test_what_the_schema_does_not_know_is_dropped() -> None:
    assert schema(text={"type": "string"}).prepare({"text": "x", "other": 1}) == {"text": "x"}
    assert schema().prepare({"other": 1}) == {}


def test_a_null_for_what_may_be_missing_never_reaches_the_container() -> None:
    seed = {"type": "integer", "nullable": True, "default": None}
    assert schema(seed=seed, steps={"type": "integer", "default": 5}).prepare({"seed": None, "steps": None}) == {}


def test_a_null_stays_where_the_model_demands_the_field_and_allows_null() -> None:
    """Classic Cog's `Optional` without a default: leaving it out fails, null does not."""
    assert schema(("seed",), seed={"type": "integer", "nullable": True}).prepare({"seed": None}) == {"seed": None}


def test_a_null_is_refused_where_a_value_is_demanded() -> None:
    [field] = refused(schema(("seed",), seed={"type": "integer"}), seed=None)
    assert field == InvalidField("invalid_type", "input.seed", "Invalid type. Expected: integer, given: null")


# --- what is named ----------------------------------------------------------------------------------------------------


def test_every_failing_field_is_named_at_once_in_the_words_of_replicate() -> None:
    model = schema(
        ("prompt", "image"),
        {"style": {"enum": ["pencil", "ink"], "type": "string", "title": "style", "description": "An enumeration."}},
        prompt={"type": "string", "minLength": 3},
        image=FILE,
        seed={"type": "integer", "minimum": 0, "maximum": 2147483647},
        guidance={"type": "number", "maximum": 50.0},
        style={"allOf": [{"$ref": "#/components/schemas/style"}], "default": "ink"},
        tags={"type": "array", "items": {"type": "string"}},
    )
    fields = refused(model, prompt="x", seed=2**31, guidance=50.5, style="oil", tags=["a", 2])
    assert {(field.type, field.field): field.description for field in fields} == {
        ("required", "input"): "image is required",
        ("string_gte", "input.prompt"): "String length must be greater than or equal to 3",
        ("number_lte", "input.seed"): "Must be less than or equal to 2147483647",
        ("number_lte", "input.guidance"): "Must be less than or equal to 50",
        ("enum", "input.style"): 'input.style must be one of the following: "pencil", "ink"',
        ("invalid_type", "input.tags.1"): "Invalid type. Expected: string, given: integer",
    }


def test_detail_is_one_line_for_each_field() -> None:
    model = schema(("a",), a={"type": "integer"}, b={"type": "integer"})
    with pytest.raises(InvalidInput) as caught:
        model.prepare({"b": "x"})
    assert caught.value.detail == (
        "- input: a is required\n- input.b: Invalid type. Expected: integer, given: string\n"
    )


@pytest.mark.parametrize(
    ("rule", "value", "type", "description"),
    [
        ({"type": "integer", "minimum": 1}, 0, "number_gte", "Must be greater than or equal to 1"),
        ({"type": "integer", "exclusiveMinimum": 1}, 1, "number_gt", "Must be greater than 1"),
        ({"type": "integer", "exclusiveMaximum": 1}, 1, "number_lt", "Must be less than 1"),
        ({"type": "integer", "multipleOf": 8}, 9, "multiple_of", "Must be a multiple of 8"),
        ({"type": "string", "maxLength": 1}, "ab", "string_lte", "String length must be less than or equal to 1"),
        ({"type": "string", "pattern": "^a{2}$"}, "b", "pattern", "Does not match pattern '^a{2}$'"),
        ({"type": "array", "minItems": 1}, [], "array_min_items", "Array must have at least 1 items"),
        ({"type": "array", "maxItems": 1}, [1, 2], "array_max_items", "Array must have at most 1 items"),
        ({"type": "boolean"}, "true", "invalid_type", "Invalid type. Expected: boolean, given: string"),
        ({"type": "integer"}, True, "invalid_type", "Invalid type. Expected: integer, given: boolean"),
        ({"type": "string"}, {}, "invalid_type", "Invalid type. Expected: string, given: object"),
    ],
)
def test_each_rule_has_its_type_and_words(rule: dict[str, Any], value: Any, type: str, description: str) -> None:
    assert refused(schema(x=rule), x=value) == [InvalidField(type, "input.x", description)]


def test_what_may_be_null_is_named_as_precisely_as_what_may_not() -> None:
    components = {"size": {"enum": [1, 2], "type": "integer"}}
    model = schema(
        components=components,
        seed={"type": "integer", "minimum": 0, "nullable": True},
        size={"allOf": [{"$ref": "#/components/schemas/size"}], "nullable": True},
    )
    assert [field.type for field in refused(model, seed=-1)] == ["number_gte"]
    assert refused(model, size=3) == [
        InvalidField("enum", "input.size", "input.size must be one of the following: 1, 2")
    ]


def test_a_union_says_what_each_of_its_types_lacks() -> None:
    model = schema(x={"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]})
    assert model.prepare({"x": 1}) == {"x": 1}
    assert model.prepare({"x": "1"}) == {"x": "1"}
    [field] = refused(model, x="long")
    assert (field.type, field.field) == ("number_any_of", "input.x")
    assert "Expected: integer" in field.description
    assert "String length" in field.description


def test_fields_of_an_object_are_named_by_their_path() -> None:
    box = {"type": "object", "properties": {"width": {"type": "integer"}}, "required": ["width"]}
    model = schema(boxes={"type": "array", "items": box})
    assert refused(model, boxes=[{}]) == [InvalidField("required", "input.boxes.0", "width is required")]
    assert [field.field for field in refused(model, boxes=[{"width": "wide"}])] == ["input.boxes.0.width"]


def test_an_input_may_be_called_nullable() -> None:
    assert [field.field for field in refused(schema(nullable={"type": "integer"}), nullable="x")] == ["input.nullable"]


def test_the_value_of_a_secret_is_in_no_error() -> None:
    rules = (
        {"maxLength": 1},
        {"minLength": 99},
        {"pattern": "^sk-"},
        {"enum": ["a"]},
        {"const": "a"},
        {"type": "null"},
    )
    for rule in rules:
        for variant in ({**SECRET, **rule}, {"anyOf": [{**SECRET, **rule}, {"type": "integer"}]}):
            fields = refused(schema(key=variant), key="hunter2")
            assert fields
            assert "hunter2" not in "".join(field.line() for field in fields)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("integer", "42", 42),
        ("integer", "-1", -1),
        ("integer", 10.0, 10),
        ("integer", "10.0", 10),
        ("integer", "18446744073709551615", 2**64 - 1),
        ("number", "0.5", 0.5),
        ("number", "1e3", 1000.0),
        ("number", 3, 3),
    ],
)
def test_numeric_strings_and_whole_floats_become_numbers(kind: str, given: Any, expected: float) -> None:
    [value] = schema(x={"type": kind}).prepare({"x": given}).values()
    assert value == expected
    assert type(value) is type(expected)


def test_numbers_in_lists_and_enums_are_coerced_too() -> None:
    model = schema(
        components={"size": {"enum": [256, 512], "type": "integer"}},
        sizes={"type": "array", "items": {"type": "integer"}},
        size={"allOf": [{"$ref": "#/components/schemas/size"}]},
    )
    assert model.prepare({"sizes": ["1", 2.0], "size": "512"}) == {"sizes": [1, 2], "size": 512}


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "one", "", "1" * 100])
def test_what_json_cannot_carry_is_no_number(text: str) -> None:
    assert [field.type for field in refused(schema(x={"type": "number"}), x=text)] == ["invalid_type"]


@pytest.mark.parametrize("value", ["1.5", "1e20", 1e20, -1e19, str(2**64)])
def test_what_is_not_whole_or_too_long_for_64_bits_is_no_integer(value: Any) -> None:
    """The api has read a longer one as a float: some of its digits are lost already."""
    assert [field.field for field in refused(schema(x={"type": "integer"}), x=value)] == ["input.x"]


def test_a_string_is_not_coerced_where_a_string_is_asked_for() -> None:
    assert schema(x={"type": "string"}).prepare({"x": "42"}) == {"x": "42"}


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.from_regex(r"\A-?[0-9]{1,70}(\.0)?(e[0-9]{1,3})?\Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EVERY_KIND = schema(
    ("needed",),
    {"size": {"enum": [1, 2], "type": "integer"}},
    needed={"type": "integer"},
    number={"type": "number", "nullable": True},
    size={"allOf": [{"$ref": "#/components/schemas/size"}], "nullable": True},
    file=FILE,
    files={"type": "array", "items": FILE},
    either={"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "number"}}]},
    anything={"type": "object"},
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["needed", "number", "size", "file", "files", "either", "anything", "unknown"]), JSON_VALUES
    )
)
def test_any_json_is_either_prepared_or_refused_by_name_and_can_be_written(given_input: dict[str, Any]) -> None:
    prepared, problems = prepared_or_refused(given_input)
    assert all(field.field.startswith("input") and field.description for field in problems)
    if problems:
        return
    assert prepared.keys() <= given_input.keys() - {"unknown"}
    assert orjson.loads(orjson.dumps(prepared)) == prepared
    assert EVERY_KIND.prepare(prepared) == prepared


def prepared_or_refused(given_input: dict[str, Any]) -> tuple[dict[str, Any], list[InvalidField]]:
    try:
        return EVERY_KIND.prepare(given_input), []
    except InvalidInput as error:
        return {}, error.fields


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "file:///etc/passwd", "ftp://host/x", "HTTP://host/x", " https://host/x", "x.png", ""]
)
def test_a_file_is_an_http_url_or_a_data_uri_and_nothing_else(value: str) -> None:
    """Cog hands any other string to the model as a path on the container's disk."""
    assert refused(schema(image=FILE), image=value) == [
        InvalidField("format", "input.image", "Must be an http(s) URL or a data: URI")
    ]


@pytest.mark.parametrize(
    "value",
    ["data:", "data:text/plain;base64", "data:;base64,abc", "http:x", "http://", "http:///x", "http://:80/x"]
    + ["https://host:port/", "https://host:65536/", "https://[::1/x", "https://ho st/x", "https://*/x", "https://?x"],
)
def test_a_file_that_no_container_could_read_is_refused(value: str) -> None:
    """Its prediction would fail, after a boot perhaps."""
    assert [field.type for field in refused(schema(image=FILE), image=value)] == ["format"]


@pytest.mark.parametrize(
    "value",
    [
        "https://host/x",
        "http://host",
        "http://user:pass@host:8080?a=b#c",
        "https://[::1]:80/",
        "https://h/" + "x" * 9999,
    ]
    + ["data:text/plain;base64,aGk=", "data:,", "data:;base64,aG%6b%3d", "data:,100% plain text"],
)
def test_urls_and_data_uris_are_files(value: str) -> None:
    assert schema(image=FILE).prepare({"image": value}) == {"image": value}


def test_files_are_looked_at_wherever_the_schema_puts_them() -> None:
    model = schema(
        components={"upload": FILE},
        maybe={**FILE, "nullable": True},
        shared={"allOf": [{"$ref": "#/components/schemas/upload"}]},
        many={"type": "array", "items": FILE},
        nested={"type": "array", "items": {"type": "array", "items": FILE}},
        named={"type": "object", "additionalProperties": FILE},
        inside={"type": "object", "properties": {"image": FILE}},
        either={"anyOf": [{"type": "integer"}, FILE]},
        lists={"anyOf": [FILE, {"type": "array", "items": FILE}]},
    )
    url, path = "https://host/x", "/etc/passwd"
    fields = refused(
        model,
        maybe=path,
        shared=path,
        many=[url, path],
        nested=[[path]],
        named={"a": path},
        inside={"image": path},
        either=path,
        lists=[path],
    )
    assert sorted(field.field for field in fields) == [
        "input.either",
        "input.inside.image",
        "input.lists.0",
        "input.many.1",
        "input.maybe",
        "input.named.a",
        "input.nested.0.0",
        "input.shared",
    ]


def test_a_union_with_text_may_be_text() -> None:
    model = schema(source={"anyOf": [{"type": "string"}, FILE]})
    assert model.prepare({"source": "a poem"}) == {"source": "a poem"}


# --- what Cog writes and no validator reads ---------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["(?P<one>.)(?P=one)", r"\A[a-z]+\Z", "("])
def test_a_pattern_that_only_python_can_read_is_not_checked_but_all_the_rest_is(pattern: str) -> None:
    model = schema(x={"type": "string", "pattern": pattern, "maxLength": 3}, pattern={"type": "integer"})
    assert model.prepare({"x": "ABC"}) == {"x": "ABC"}
    assert [field.type for field in refused(model, x="long", pattern="(")] == ["string_lte", "invalid_type"]


def test_an_empty_union_refuses_nothing() -> None:
    """Classic Cog writes it for an optional list of files."""
    files = {"type": "array", "items": {**FILE, "anyOf": []}, "nullable": True}
    assert schema(files=files).prepare({"files": ["data:,x"]}) == {"files": ["data:,x"]}
    assert refused(schema(files=files), files=["x.png"])


def test_classic_cog_is_told_of_an_optional_without_a_default_that_is_missing() -> None:
    """It may demand it although its schema does not; only classic Cog's document has this component."""
    seed, style = {"type": "integer", "nullable": True}, {"type": "string", "nullable": True, "default": "ink"}
    classic = schema(components={"WebhookEvent": {"type": "string"}}, seed=seed, style=style)
    assert classic.prepare({"style": None}) == {"seed": None}
    assert classic.prepare({"seed": 1, "style": "oil"}) == {"seed": 1, "style": "oil"}
    assert schema(seed=seed).prepare({"seed": None}) == {}


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_text_that_the_database_cannot_keep_is_refused_with_or_without_a_schema() -> None:
    for model in (schema(x={"type": "object"}), InputSchema(None)):
        for value in ({"a": "\x00"}, {"\x00": 1}, {"a": ["b", {"c": "\x00"}]}):
            assert refused(model, x=value) == [
                InvalidField("format", "input.x", "Must not contain the character U+0000")
            ]


@pytest.mark.parametrize("broken", [{"type": "nothing"}, {"$ref": "#/components/schemas/Missing"}])
def test_a_schema_that_cannot_be_compiled_says_so(broken: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="The input schema of this version cannot be used"):
        schema(x=broken)


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/schema.json", "file:///etc/passwd"])
def test_nothing_that_a_schema_refers_to_is_fetched(reference: str) -> None:
    with pytest.raises(Invalid, match="Retrieval is disabled"):
        schema(x={"$ref": reference})
