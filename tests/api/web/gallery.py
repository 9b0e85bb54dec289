"""A page that shows every building block, made as every page is made: one function, one template."""

from datetime import date
from pathlib import Path
from random import Random

from fastapi import APIRouter, FastAPI, Request, Response

from api.web import charts, pages
from api.web.access import page
from api.web.formats import short_day
from api.web.gate import PageRoute
from api.web.ranges import date_range
from api.web.views import Page

TODAY = date(2026, 11, 22)
NAMES = ("acme/llama-70b", "acme/flux-dev", "globex/whisper", "globex/upscale", "initech/embed", "initech/ocr")

router = APIRouter(route_class=PageRoute, include_in_schema=False)


def extend(app: FastAPI) -> None:
    pages.add_templates(Path(__file__).parent / "templates")
    app.include_router(router)


@router.get("/gallery")
@page(admin=True)
async def gallery(view: Page, request: Request, span: str = "", since: str = "", until: str = "") -> Response:
    days = date_range(TODAY, span, since, until)
    names = [*NAMES, "a/one", "b/two", "c/three"] if "many" in request.query_params else NAMES
    return view.render(
        "gallery.html",
        days=days,
        chart=_chart(days.days, names),
        idle=charts.bar_list([charts.Item(name, 10**9 * 7 // (n + 1), here(name)) for n, name in enumerate(names)]),
        spark=charts.sparkline([3, 5, 4, 8, 6, 9, 12, 10, 14, 13, 18, 17]),
        model=request.query_params.get("model", ""),
        models=names,
    )


def here(model: str) -> str:
    return f"/gallery?model={model}"


def _chart(days: list[date], names: tuple[str, ...] | list[str]) -> charts.StackedBars:
    chance = Random(4)
    columns = [charts.Column(short_day(day), f"{day:%A}, {short_day(day)}", f"/gallery?day={day}") for day in days]
    series = [
        charts.Series(
            name,
            [int(chance.uniform(0.4, 1.6) * 9e10 / (n + 1.3)) * (day.weekday() < 5 or n < 2) for day in days],
            [f"/gallery?model={name}&since={day}&until={day}" for day in days],
            here(name),
        )
        for n, name in enumerate(names)
    ]
    return charts.stacked_bars("Spend by Model and day", columns, series)


@router.get("/gallery/broken")
@page()
async def broken(view: Page) -> Response:
    raise RuntimeError("this page is broken on purpose")
