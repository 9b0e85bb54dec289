"""Predictors of every shape that Cog knows, made by Hypothesis: the source of each, and inputs for it, good and bad.

Knows how Cog spells inputs; knows no verdict. An input's own values are mostly at the edges of its rules.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

Values = st.SearchStrategy[Any]

#: Stands in every generated URL for the address of a server that gives a file for any path.
FILE_HOST = "files.invalid"

NAMES = ("prompt", "nullable", "required", "type", "items", "properties", "enum", "default", "größe", "title", "n")
HEADER = """from typing import Any, Dict, List, Literal, Optional, Union
from cog import BasePredictor, File, Input, Path, Secret
class Predictor(BasePredictor):
    def predict(self, {parameters}) -> str:
        for given in list(locals().values()):
            getattr(given, "read", str)()  # a File is not fetched before it is read
        return "done"
"""


@dataclass(frozen=True)
class Kind:
    """A type with its rules: `fits` keeps them all, `values` are near them on both sides."""

    annotation: str
    fits: Values = field(repr=False)
    values: Values = field(repr=False)
    rules: dict[str, Any] = field(default_factory=dict)
    #: Whether the source can name a default that is not None.
    has_default: bool = True
    is_optional: bool = False

    @property
    def holds_files(self) -> bool:
        return "Path" in self.annotation or "File" in self.annotation


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: Kind
    #: Python for the default; empty where the caller must give a value.
    default: str
    example: Any

    @property
    def source(self) -> str:
        rules = [f"{name}={value!r}" for name, value in self.kind.rules.items()]
        arguments = ", ".join([f"default={self.default}"] * bool(self.default) + rules)
        return f"{self.name}: {self.kind.annotation} = Input({arguments})"


@dataclass(frozen=True)
class Predictor:
    parameters: tuple[Parameter, ...]

    @property
    def source(self) -> str:
        required_first = sorted(self.parameters, key=lambda parameter: bool(parameter.default))
        return HEADER.format(parameters=", ".join(parameter.source for parameter in required_first))


# --- numbers ----------------------------------------------------------------------------------------------------------


def as_written(value: float) -> Values:
    """A number as callers write it: whole, as a float, as a string."""
    return st.sampled_from([value, value, float(value), str(value), f" {value} ", str(float(value))])


@st.composite
def integers(draw: st.DrawFn) -> Kind:
    low = draw(st.none() | st.sampled_from([-3, 0, 1, 2**31]))
    high = draw(st.none() | st.sampled_from([0, 1, 7, 2**53]).map(lambda width: (low or 0) + width))
    first, last = (high or 0) - 5 if low is None else low, (low or 0) + 5 if high is None else high
    edges = [first - 1, first, last, last + 1, 0, 2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63)]
    return Kind(
        "int",
        fits=st.integers(first, last),
        values=st.sampled_from(edges).flatmap(as_written) | st.sampled_from([first + 0.5, f"{first}.5", 1e20, "1_0"]),
        rules=_given(ge=low, le=high),
    )


@st.composite
def floats(draw: st.DrawFn) -> Kind:
    low = draw(st.none() | st.sampled_from([-1.5, 0, 0.1, 1]))
    high = draw(st.none() | st.sampled_from([0.0, 0.2, 3, 1e10]).map(lambda width: (low or 0) + width))
    first, last = (high or 0) - 5 if low is None else low, (low or 0) + 5 if high is None else high
    # Not nearer: Cog's JSON parser is off in the last bit.
    edges = [first - 1e-9, first, last, last + 1e-9, 0, 2, -1, 1e300]
    return Kind(
        "float",
        fits=st.floats(first, last),
        values=st.sampled_from(edges).flatmap(as_written) | st.sampled_from(["1e0", "-.5", "1e", 2**64 - 1]),
        rules=_given(ge=low, le=high),
    )


@st.composite
def integer_choices(draw: st.DrawFn) -> Kind:
    choices = draw(st.lists(st.sampled_from([0, 1, 2, 512, -1, 2**40]), min_size=1, max_size=4, unique=True))
    near = st.sampled_from([*choices, 0, 1, 3]).flatmap(as_written)
    return Kind("int", st.sampled_from(choices), near, {"choices": choices})


# --- text -------------------------------------------------------------------------------------------------------------

ALPHABET = "aZ9 é\n'\"\\😀\u0301"
#: Patterns as models have them, each with what fits.
PATTERNS = {
    r"^[a-z]+$": "abc",
    r"^\d{2,3}$": "42",
    r"^\w+\s?\w*$": "two words",
    r"\.(png|jpe?g)$": "x.jpg",
    r"^#(?:[0-9a-fA-F]{3}){1,2}$": "#ffF000",
    r"^(\d+)x(\d+)$": "16x9",
    r"^[^\x00-\x1f]*$": "ä",
    r"": "",
}
#: What classic Cog cannot start with.
NEWEST_PATTERNS = {r"^(?!bad).*$": "good", r"^(.)\1$": "aa"}
PATTERN_EDGES = ["ABC", "abc\n", "٤٢", "1234", "é_1 b", "bad", "x.jpeg", "#ff", "16x9 ", "\t", "\u2028", "ǅ"]


@st.composite
def texts(draw: st.DrawFn) -> Kind:
    shortest = draw(st.none() | st.integers(0, 3))
    longest = draw(st.none() | st.integers(0, 4).map(lambda more: (shortest or 0) + more))
    lengths = {"min_size": shortest or 0, "max_size": (shortest or 0) + 4 if longest is None else longest}
    near = st.text(ALPHABET, min_size=max(0, lengths["min_size"] - 1), max_size=lengths["max_size"] + 1)
    return Kind("str", st.text(ALPHABET, **lengths), near, _given(min_length=shortest, max_length=longest))


@st.composite
def patterns(draw: st.DrawFn, known: dict[str, str]) -> Kind:
    pattern = draw(st.sampled_from(list(known)))
    near = st.sampled_from([*PATTERNS.values(), *PATTERN_EDGES])
    return Kind("str", st.just(known[pattern]), near, {"regex": pattern})


@st.composite
def text_choices(draw: st.DrawFn) -> Kind:
    words = ["a", "A", "two words", "ü", "'", '"', "1", "x/y~z%41", "null", "True"]
    choices = draw(st.lists(st.sampled_from(words), min_size=1, max_size=5, unique=True))
    return Kind("str", st.sampled_from(choices), st.sampled_from([*words, "a ", "\ta", 1]), {"choices": choices})


LITERALS = Kind("Literal['fast', 'good']", st.sampled_from(["fast", "good"]), st.sampled_from(["fast", "Good", "", 0]))
FLAGS = Kind("bool", st.booleans(), st.booleans() | st.sampled_from([0, 1, "true", "False", "yes", 1.0]))
SECRETS = Kind("Secret", st.text(ALPHABET, max_size=4), st.text(ALPHABET, max_size=4), has_default=False)

# --- files ------------------------------------------------------------------------------------------------------------

GOOD_FILES = [
    "data:,",
    "data:text/plain,hello%20world",
    "data:text/plain;charset=utf-8;base64,aGk=",
    "data:image/png;base64,aG k\n=",
    "data:image/png;base64,%61%47%6b%3d",
    "data:;base64,",
    "data:nonsense;a=b;c,ü",
    "data:text/plain#,x#",
    f"http://{FILE_HOST}",
    f"http://{FILE_HOST}/",
    f"http://{FILE_HOST}/a/b.png",
    f"http://{FILE_HOST}/über%20uns.txt?x=[1]&y=a b#part",
    f"http://{FILE_HOST}//double//slash?",
    f"http://{FILE_HOST}/{'long' * 100}.txt",
    f"http://user:pass%40word@{FILE_HOST}/secret",
]
BAD_FILES = [
    "",
    "x.png",
    "/etc/hostname",
    "file:///etc/hostname",
    "ftp://127.0.0.1/x",
    "HTTP://127.0.0.1:9/x",
    " http://127.0.0.1:9/x",
    "DATA:,x",
    "data:",
    "data:text/plain",
    "data:;base64,a",
    "data:;base64,abc",
    "data:;base64,YQ=%",
    "http:",
    "http:/x",
    "http://",
    "http:///x",
    "http://?x",
    "http://[",
    "http://[::1",
    "http://[zz]/",
    "http://:80/",
    "http://127.0.0.1:x/",
    "http://127.0.0.1:99999/",
    "http://*/",
    "http://.local/",
    "http://a b/",
    "https://",
]
FILES = [
    Kind(name, st.sampled_from(GOOD_FILES), st.sampled_from(GOOD_FILES + BAD_FILES), has_default=False)
    for name in ("Path", "File")
]

# --- what holds others ------------------------------------------------------------------------------------------------

OBJECTS = st.dictionaries(st.sampled_from(["a", "b c", "ü"]), st.none() | st.integers(0, 3) | st.text("ab", max_size=2))
ANYTHING = [
    Kind(annotation, OBJECTS, OBJECTS, has_default=False) for annotation in ("dict", "Dict[str, Any]", "dict[str, int]")
]
ANYTHING.append(Kind("Any", OBJECTS, OBJECTS, has_default=False))
PLAIN = [
    Kind("int", st.integers(-3, 3), st.sampled_from([0, -1, 1.0, "1", "1.5", 1.5])),
    Kind("float", st.sampled_from([0.5, 1.0, 2]), st.sampled_from([1, 0.5, "0.5", "x"])),
    Kind("str", st.text(ALPHABET, max_size=3), st.text(ALPHABET, max_size=3)),
    FLAGS,
]


def lists(item: Kind, spelling: str) -> Kind:
    return Kind(
        f"{spelling}[{item.annotation}]",
        st.lists(item.fits, max_size=3),
        st.lists(item.fits | item.values, max_size=3) | item.fits,
        has_default=item.has_default,
    )


def unions(members: list[Kind], spelling: str) -> Kind:
    names = [member.annotation for member in members]
    return Kind(
        " | ".join(names) if spelling == "|" else f"Union[{', '.join(names)}]",
        st.one_of([member.fits for member in members]),
        st.one_of([member.values for member in members]),
        has_default=all(member.has_default for member in members),
    )


def optional(kind: Kind, spelling: str) -> Kind:
    annotation = f"{kind.annotation} | None" if spelling == "|" else f"Optional[{kind.annotation}]"
    return replace(kind, annotation=annotation, values=kind.values | st.none(), is_optional=True)


SCALARS: list[st.SearchStrategy[Kind]] = [
    integers(),
    floats(),
    texts(),
    patterns(PATTERNS),
    st.just(FLAGS),
    st.just(SECRETS),
    st.sampled_from(FILES),
]
LISTS = st.builds(lists, st.sampled_from([*PLAIN, *FILES[:1], SECRETS]), st.sampled_from(["list", "List"]))
UNIONS = st.builds(
    unions,
    st.lists(
        st.sampled_from([*PLAIN, ANYTHING[0]]) | st.builds(lists, st.sampled_from(PLAIN), st.just("list")),
        min_size=2,
        max_size=3,
        unique_by=lambda kind: kind.annotation,
    ),
    st.sampled_from(["|", "Union"]),
)
OPEN = st.sampled_from(ANYTHING) | st.builds(lists, st.sampled_from(ANYTHING), st.just("list"))

# --- predictors and their inputs --------------------------------------------------------------------------------------

Kinds = list[st.SearchStrategy[Kind]]


def optionals(kinds: Kinds) -> Kinds:
    return [st.builds(optional, kind, st.sampled_from(["|", "Optional"])) for kind in kinds]


CHOICES = [integer_choices(), text_choices(), st.just(LITERALS)]
#: One input of each. Classic Cog takes no optional choices, and of an optional literal it forgets that it is optional.
CLASSIC: Kinds = [*SCALARS, LISTS, LISTS, *CHOICES, *optionals([*SCALARS, LISTS])]
NEWEST: Kinds = [*CLASSIC, patterns(NEWEST_PATTERNS), UNIONS, UNIONS, OPEN, *optionals([*CHOICES, UNIONS, OPEN])]


def predictors(kinds: Kinds) -> st.SearchStrategy[Predictor]:
    names = [*NAMES, *(f"input_{number}" for number in range(len(kinds)))]
    return st.tuples(*[parameters(name, kind) for name, kind in zip(names, kinds, strict=False)]).map(Predictor)


@st.composite
def parameters(draw: st.DrawFn, name: str, kinds: st.SearchStrategy[Kind]) -> Parameter:
    kind = draw(kinds)
    defaults = [st.just("")]
    if kind.is_optional:
        defaults.append(st.just("None"))
    if kind.has_default:
        defaults.append(kind.fits.map(repr))
    return Parameter(name, kind, draw(st.one_of(defaults)), draw(kind.fits))


JUNK = st.sampled_from(
    [None, True, False, 0, 1, -1, 1.0, 0.5, 1e300, "", "1", "1.0", "true", "None", "nan", "\0", "日本", [], {}]
    + [[None], [1], ["1"], [[]], [{}], {"a": 1}, {"": None}, 2**64, -(2**64), f"http://{FILE_HOST}/", "data:,"]
)


MISSING = object()


def inputs(predictor: Predictor) -> st.SearchStrategy[dict[str, Any]]:
    """What fits, what nearly does, what no one would send; some inputs missing, some unknown."""
    values = {
        each.name: st.one_of(each.kind.fits, each.kind.values, each.kind.values, JUNK, st.just(MISSING))
        for each in predictor.parameters
    }
    return st.fixed_dictionaries({**values, "unknown": JUNK}).map(
        lambda input: {name: value for name, value in input.items() if value is not MISSING}
    )


def _given(**rules: Any) -> dict[str, Any]:
    return {name: value for name, value in rules.items() if value is not None}
