"""Templates to pages: the one environment they are rendered in, and the headers every page is sent with.

Nothing inline is allowed: no script, no style. Charts put their geometry into attributes of SVG, which is neither.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.web import charts, formats
from api.web.assets import asset

TEMPLATES = Path(__file__).parent / "templates"
_HEADERS = {
    # What one person has seen is not to be seen by the next one at the same browser, by its back button.
    "Cache-Control": "no-store",
    # Not no-referrer: with it browsers send `Origin: null` from our own forms, which are then refused.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def environment(*folders: Path) -> Environment:
    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["asset"] = asset
    made.filters.update(formats.FILTERS)
    made.filters["sparkline"] = charts.sparkline
    return made


_environment = environment()


def add_templates(folder: Path) -> None:
    """Where else to look for them; before the first page is rendered."""
    _environment.loader.searchpath.append(str(folder))


def policy(form_targets: Sequence[str] = ()) -> str:
    """`form_targets`: origins that a form of the page leads to by a redirect, such as a payment provider's."""
    targets = " ".join(("'self'", *form_targets))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"connect-src 'self'; form-action {targets}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )


def render(template: str, context: dict[str, Any], status: int = 200, form_targets: Sequence[str] = ()) -> HTMLResponse:
    html = _environment.get_template(template).render(context)
    return HTMLResponse(html, status, {**_HEADERS, "Content-Security-Policy": policy(form_targets)})
