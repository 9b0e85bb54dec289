"""Reads the end of a prediction, and the sentences a person gets for it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from worker.events import Done

MAX_ERROR_CHARACTERS = 16 * 1024
MAX_METRICS_BYTES = 64 * 1024
# The worker meters with its own clock; these names are Cog's, not the model's.
RESERVED_METRIC = re.compile(r"predict_time$|cog\.")

STATUSES = ("succeeded", "failed", "canceled")
# What Cog writes around what the model raised.
PREDICT_PREFIX = re.compile(
    r"^((Async )?[Pp]rediction failed: |(Async )?[Tt]raining failed: |Generator iteration error: )+"
)
SETUP_PREFIX = re.compile(r"^.*([Ss]etup failed|errored during setup): ")
CLASSIC_DEATH = re.compile(r"failed for an unknown reason\. It might have run out of memory\? \(exitcode (\S+)\)")
# Newer Cog prefixes what the model raised, so these can only be its own words for a worker that is gone.
NEWER_DEATHS = (
    "worker crashed",
    "Worker crashed",
    "Slot socket error",
    "Slot dropped unexpectedly",
    "Failed to send request",
)

DIED = "The model's process died while it ran this prediction (out of memory?). Try a smaller input or more memory."
EXITED = "The model's process ended with exit code {code} while it ran this prediction. Its logs may say why."
DEAD = "The model's process in this container is dead, and the container was stopped. Run the prediction again."
GONE = "The container went away while it ran this prediction: {reason}. Its logs may say why."
UNREACHABLE = "The container did not take this prediction: {reason}. Run the prediction again."
LOST = "The container finished this prediction, but its result never arrived. Run the prediction again."
GARBLED = "The container's answer was not what Cog's protocol says, and it was stopped. Run the prediction again."
TOO_LARGE = "The model's output and logs are too large: {reason}. Return files instead."
LAGGED = "The model wrote output faster than it could be read, and the container dropped some. Write larger chunks."
NOT_FREE = "The container says that it is busy though nothing of ours runs in it, and was stopped."
REFUSED = "The container refused this prediction with HTTP {status}: {reason}"


@dataclass(frozen=True, slots=True)
class OutputType:
    """What a Version's `Output` schema promises; unknown, where there is none, reads as an iterator."""

    schema: Mapping[str, Any] | None = None

    @property
    def iterates(self) -> bool:
        return self.schema is None or self.schema.get("x-cog-array-type") == "iterator"

    def restore(self, output: Any) -> Any:
        """Classic Cog turns every falsy output into null; give it back where the type allows only one reading."""
        if output is not None or not self.schema or self.schema.get("nullable") or "enum" in self.schema:
            return output
        match self.schema:
            case {"type": "string", "format": _} | {"type": "object", "properties": _}:
                return None
            case {"type": "string" | "integer" | "number" | "boolean" | "array" | "object" as name}:
                return {"string": "", "integer": 0, "number": 0.0, "boolean": False, "array": [], "object": {}}[name]
        return None


def wants_files_inline(cog_version: str | None, output_schema: Mapping[str, Any] | None) -> bool:
    """Whether the container should be started without an upload URL, and give files as data URIs.

    Cog 0.17 to 0.23 uploads the files of a list all at once and lists them as their uploads end; nothing in an upload
    tells its place. Inline they come in order. A single file, and classic Cog's one by one, are uploaded.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", cog_version or "")[:2])
    return numbers >= (0, 17) and bool(output_schema) and output_schema.get("type") == "array"


def done(body: Mapping[str, Any], output_type: OutputType, *, classic: bool) -> Done:
    """The `Done` of a container's terminal document, of which only named fields are copied."""
    error = body.get("error")
    # Classic Cog follows a failed upload with `succeeded` and the error.
    status = "failed" if error else body["status"]
    output = body.get("output")
    if status == "succeeded" and classic:
        output = output_type.restore(output)
    elif status != "succeeded" and not output_type.iterates:
        output = None
    text, died = explain(error)
    if status == "failed" and text is None:
        text = "The model failed without saying why."
    return Done(
        status=status,
        output=output,
        error=text if status == "failed" else None,
        metrics=model_metrics(body.get("metrics")),
        container_lost=died,
    )


def gone(reason: object) -> Done:
    return Done("failed", error=GONE.format(reason=reason), container_lost=True)


def unreachable(reason: object) -> Done:
    return Done("failed", error=UNREACHABLE.format(reason=reason), container_lost=True)


def explain(error: Any) -> tuple[str | None, bool]:
    """The model's own message, or a sentence about its death; and whether it died."""
    if not error:
        return None, False
    text = error if isinstance(error, str) else orjson.dumps(error).decode()
    if classic := CLASSIC_DEATH.search(text):
        # Negative is a signal, nearly always the kernel's own for want of memory.
        return (DIED if classic[1].startswith("-") else EXITED.format(code=classic[1])), True
    if text.startswith(NEWER_DEATHS):
        return DIED, True
    return PREDICT_PREFIX.sub("", text)[:MAX_ERROR_CHARACTERS], False


def explain_setup(logs: str) -> str:
    """Why setup failed: its last line, which of a traceback is the exception."""
    text, died = explain(next(reversed(logs.strip().splitlines()), None))
    if died or text is None:
        return "The model's process died during setup (out of memory?)."
    return f"The model's setup failed: {SETUP_PREFIX.sub('', text)}"


def model_metrics(metrics: Any) -> dict[str, Any]:
    """What the model itself recorded; nothing if that is absurdly large."""
    if not isinstance(metrics, Mapping):
        return {}
    kept = {name: value for name, value in metrics.items() if not RESERVED_METRIC.match(name)}
    return kept if not kept or len(orjson.dumps(kept)) <= MAX_METRICS_BYTES else {}


def refusal_text(status: int, body: bytes) -> str:
    """Why the container did not take a prediction; for invalid input, every failing field."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return REFUSED.format(status=status, reason=body.decode(errors="replace").strip()[:MAX_ERROR_CHARACTERS])
    detail = document.get("detail", document.get("error")) if isinstance(document, Mapping) else None
    if isinstance(detail, list):
        detail = "; ".join(_field_error(item) for item in detail)
    text = str(detail or "no reason given")[:MAX_ERROR_CHARACTERS]
    return (
        f"The model does not accept this input: {text}" if status == 422 else REFUSED.format(status=status, reason=text)
    )


def _field_error(item: Any) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    place = item.get("loc")
    names = [str(part) for part in place if part not in ("body", "input")] if isinstance(place, list) else []
    return ": ".join(filter(None, [".".join(names), str(item.get("msg", "is invalid"))]))
