"""The parts of the client that decide without a container: posts, ends, sentences and health."""

from typing import Any

import pytest

from worker.cog import HookInbox, wants_files_inline
from worker.cog.health import parse
from worker.cog.hooks import Progress, Silence
from worker.cog.outcome import OutputType, done, explain, explain_setup, refusal_text
from worker.events import Done, Log, Output

ITERATOR = OutputType({"type": "array", "x-cog-array-type": "iterator"})
STRING = OutputType({"type": "string"})


class TestHook:
    async def test_the_first_terminal_post_stays(self) -> None:
        """Classic Cog follows a failed upload with a success; newer Cog posts out of order."""
        inbox = HookInbox("http://node/hooks")
        with inbox.open("a") as hook:
            inbox.deliver("a", {"id": "a", "status": "failed", "error": "first"})
            inbox.deliver("a", {"id": "a", "status": "succeeded", "error": "second"})
            inbox.deliver("a", {"id": "a", "status": "processing"})

            assert (await hook.next(1))["error"] == "first"
            assert await hook.next(0.01) is None

    async def test_posts_about_anything_else_are_dropped(self) -> None:
        inbox = HookInbox("http://node/hooks")
        with inbox.open("a") as hook:
            inbox.deliver("a", {"id": "b", "status": "succeeded"})
            inbox.deliver("b", {"id": "a", "status": "succeeded"})
            inbox.deliver("a", ["not", "an", "object"])

            assert await hook.next(0.01) is None

    async def test_a_post_after_the_end_reaches_nobody(self) -> None:
        inbox = HookInbox("http://node/hooks/")
        with inbox.open("a") as hook:
            assert hook.url == "http://node/hooks/a"
        inbox.deliver("a", {"id": "a", "status": "succeeded"})

        with inbox.open("a") as hook:
            assert await hook.next(0.01) is None


class TestProgress:
    def test_only_what_is_new_is_told(self) -> None:
        progress = Progress(ITERATOR, classic=True)
        first = {"status": "processing", "logs": "one\n", "output": ["a"]}
        second = {"status": "processing", "logs": "one\ntwo\n", "output": ["a", "b"]}

        assert list(progress.advance(first)) == [Log("one\n"), Output("a", 0)]
        assert list(progress.advance(second)) == [Log("two\n"), Output("b", 1)]

    def test_a_late_post_adds_nothing_and_takes_nothing_back(self) -> None:
        progress = Progress(ITERATOR, classic=True)
        list(progress.advance({"status": "processing", "logs": "one\ntwo\n", "output": ["a", "b"]}))

        assert list(progress.advance({"status": "processing", "logs": "one\n", "output": ["a"]})) == []
        assert list(progress.advance({"status": "starting"})) == []

    def test_the_last_post_tells_whatever_others_should_have(self) -> None:
        end = {"status": "succeeded", "logs": "all\n", "output": ["a", "b"], "metrics": {"predict_time": 1}}

        assert list(Progress(ITERATOR, classic=True).advance(end)) == [
            Log("all\n"),
            Output("a", 0),
            Output("b", 1),
            Done("succeeded", ["a", "b"]),
        ]

    def test_a_list_that_is_returned_whole_is_one_output(self) -> None:
        progress = Progress(OutputType({"type": "array"}), classic=False)
        partial = {"status": "processing", "output": ["a"]}
        end = {"status": "succeeded", "output": ["a", "b"]}

        assert list(progress.advance(partial)) == []
        assert list(progress.advance(end)) == [Output(["a", "b"], 0), Done("succeeded", ["a", "b"])]


class TestEnd:
    def test_success_with_an_error_is_a_failure(self) -> None:
        end = done({"status": "succeeded", "error": "upload failed", "output": "x"}, STRING, classic=True)

        assert end == Done("failed", error="upload failed")

    def test_metrics_of_a_failure_may_be_null(self) -> None:
        assert done({"status": "failed", "error": "x", "metrics": None}, STRING, classic=True).metrics == {}

    def test_a_failure_without_a_reason_says_so(self) -> None:
        end = done({"status": "failed", "error": ""}, STRING, classic=True)

        assert end.error == "The model failed without saying why."

    @pytest.mark.parametrize(
        ("schema", "restored"),
        [
            ({"type": "string"}, ""),
            ({"type": "integer"}, 0),
            ({"type": "number"}, 0.0),
            ({"type": "boolean"}, False),
            ({"type": "array", "items": {"type": "string"}}, []),
            ({"type": "object"}, {}),
            ({"type": "string", "format": "uri"}, None),
            ({"type": "string", "nullable": True}, None),
            ({"type": "string", "enum": ["a"]}, None),
            ({"type": "object", "properties": {"a": {}}}, None),
            ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, None),
            ({}, None),
        ],
    )
    def test_a_null_of_classic_cog_becomes_the_falsy_value_its_type_allows(
        self, schema: dict[str, Any], restored: Any
    ) -> None:
        end = done({"status": "succeeded", "output": None}, OutputType(schema), classic=True)

        assert (end.output, type(end.output)) == (restored, type(restored))

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ("Prediction failed: Prediction failed: ValueError: no", "ValueError: no"),
            ("Prediction failed: Async prediction failed: ValueError: no", "ValueError: no"),
            ("Prediction failed: Generator iteration error: ValueError: no", "ValueError: no"),
            ("no", "no"),
            ({"not": "text"}, '{"not":"text"}'),
        ],
    )
    def test_an_error_is_the_models_own_message(self, said: Any, told: str) -> None:
        assert explain(said) == (told, False)

    @pytest.mark.parametrize(
        "said",
        [
            "Worker crashed",
            "Slot socket error: broken pipe",
            "Prediction failed for an unknown reason. It might have run out of memory? (exitcode -9)",
        ],
    )
    def test_a_death_is_known_by_cogs_words(self, said: str) -> None:
        text, died = explain(said)

        assert died
        assert "out of memory?" in text

    @pytest.mark.parametrize(
        ("logs", "reason"),
        [
            ("", "process died during setup"),
            ("worker crashed", "process died during setup"),
            ("hi\nX: Predictor setup failed for an unknown reason. It might have run out of memory? (exitcode -9)",
             "process died during setup"),
            ("hi\ncog.X: Predictor errored during setup: no", "setup failed: no"),
            ("worker setup failed: worker setup failed (slot 1): Setup failed: setup failed: E: no", "failed: E: no"),
            ("worker setup timed out", "setup failed: worker setup timed out"),
        ],
    )  # fmt: skip
    def test_a_failed_setup_is_explained_by_its_last_line(self, logs: str, reason: str) -> None:
        assert explain_setup(logs).removesuffix(" (out of memory?).").endswith(reason)

    @pytest.mark.parametrize(
        ("status", "body", "text"),
        [
            (
                422,
                b'{"detail":[{"loc":["body","input","n"],"msg":"bad"},{"loc":["body","input","m",0],"msg":"worse"}]}',
                "The model does not accept this input: n: bad; m.0: worse",
            ),
            (422, b'{"detail":"odd"}', "The model does not accept this input: odd"),
            (
                413,
                b"length limit exceeded",
                "The container refused this prediction with HTTP 413: length limit exceeded",
            ),
            (503, b"[]", "The container refused this prediction with HTTP 503: no reason given"),
        ],
    )
    def test_a_refusal_names_every_field(self, status: int, body: bytes, text: str) -> None:
        assert refusal_text(status, body) == text


class TestHealth:
    def test_a_dead_worker_is_told_from_a_model_that_feels_unwell(self) -> None:
        dead = parse({"status": "UNHEALTHY", "user_healthcheck_error": "Healthcheck error: protocol error"})
        unwell = parse({"status": "UNHEALTHY", "user_healthcheck_error": "healthcheck returned false"})

        assert (dead.recycle, dead.accepts_predictions) == (True, False)
        assert (unwell.recycle, unwell.accepts_predictions) == (False, True)

    @pytest.mark.parametrize(("version", "streams"), [("0.20.0", False), ("0.21.0-rc.1", True), ("0.23.1", True)])
    def test_event_streams_begin_with_0_21(self, version: str, streams: bool) -> None:
        assert parse({"status": "READY", "version": {"coglet": version}}).streams is streams

    @pytest.mark.parametrize("body", [None, [], "READY", {}, {"status": 7, "setup": [], "version": "x"}])
    def test_nonsense_is_unknown(self, body: Any) -> None:
        assert parse(body).status == "unknown"

    def test_a_silent_container_that_is_idle_is_given_time(self) -> None:
        """With more slots than one, idle says nothing about one prediction."""
        ready = parse({"status": "READY"})

        assert Silence(slots=1).judge(ready) is None
        assert Silence(slots=2).judge(ready) is None


@pytest.mark.parametrize(
    ("version", "output", "inline"),
    [
        ("0.23.1", {"type": "array"}, True),
        ("0.17.0", {"type": "array"}, True),
        ("0.23.1", {"type": "string", "format": "uri"}, False),
        ("0.16.12", {"type": "array"}, False),
        (None, {"type": "array"}, False),
        ("0.23.1", None, False),
    ],
)
def test_lists_of_newer_cog_come_inline(version: str | None, output: dict[str, Any] | None, inline: bool) -> None:
    assert wants_files_inline(version, output) is inline
