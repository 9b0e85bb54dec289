"""tiny-llm writes English in small pieces, and the same again for the same seed."""

import re

import pytest

from tests.cog_models.served import Model, Serve

PROMPT = "Elizabeth was surprised to see"
# About half of all words in English prose are among its forty most frequent.
# fmt: off
FREQUENT = {
    "the", "to", "of", "and", "a", "her", "i", "in", "was", "it", "she", "not", "that", "be", "you", "he", "as",
    "had", "with", "his", "for", "but", "have", "is", "at", "so", "him", "on", "my", "could", "by", "all", "they",
    "were", "which", "been", "would", "very", "from",
}
# fmt: on


@pytest.fixture(scope="module")
async def model(serve: Serve) -> Model:
    return await serve("tiny-llm")


async def test_it_writes_english(model: Model) -> None:
    text = (await model.predict(prompt=PROMPT, max_new_tokens=200, seed=1)).done.output
    words = re.findall(r"[a-z]+", "".join(text).lower())
    assert len(words) > 100
    assert sum(word in FREQUENT for word in words) / len(words) > 0.35, text


async def test_each_token_is_a_chunk_and_both_counts_are_metrics(model: Model) -> None:
    result = await model.predict(prompt=PROMPT, max_new_tokens=20)
    assert len(result.chunks) == 20
    assert result.chunks == result.done.output
    assert result.done.metrics["output_token_count"] == 20
    assert 0 < result.done.metrics["input_token_count"] <= len(PROMPT)


async def test_a_seed_means_the_same_text_and_another_seed_means_another(model: Model) -> None:
    first, again, other = [
        (await model.predict(prompt=PROMPT, max_new_tokens=20, seed=seed)).done.output for seed in (1, 1, 2)
    ]
    assert first == again != other


async def test_at_temperature_0_the_seed_does_not_matter(model: Model) -> None:
    first, other = [
        (await model.predict(prompt=PROMPT, max_new_tokens=20, temperature=0, seed=seed)).done.output for seed in (1, 2)
    ]
    assert first == other


@pytest.mark.parametrize("prompt", ["", "Zoë 🌍 ...", "Mr. Darcy " * 200])
async def test_any_prompt_is_continued(model: Model, prompt: str) -> None:
    assert len((await model.predict(prompt=prompt, max_new_tokens=5)).chunks) == 5


async def test_its_logs_tell_the_device_and_the_seed_it_chose(model: Model) -> None:
    logs = (await model.predict(prompt=PROMPT, max_new_tokens=1)).logs
    assert "Writing up to 1 tokens on c" in logs
    assert "with seed " in logs
