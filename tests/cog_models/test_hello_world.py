"""hello-world greets."""

from tests.cog_models.served import Serve


async def test_it_greets_whoever_is_named(serve: Serve) -> None:
    model = await serve("hello-world")
    assert (await model.predict(text="Ada")).done.output == "hello Ada"
    assert (await model.predict(text="Zoë 🌍")).done.output == "hello Zoë 🌍"


async def test_it_insists_on_a_name(serve: Serve) -> None:
    result = await (await serve("hello-world")).predict()
    assert result.done.status == "failed"
    assert "text" in result.done.error
