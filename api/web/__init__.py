"""The pages: what people see, where clients see /v1. Rendered here, with a little htmx on top; nothing is built.

A new page is a function in routes/ (or billing/) and a template in templates/ (and, if it stands at the side, a line in
navigation.py). The head of templates/components.html shows the building blocks.
"""

from fastapi import FastAPI

from api.web import assets, errors
from api.web.routes import web


def install(app: FastAPI) -> None:
    """After the routes and error handlers of the api."""
    app.include_router(web)
    assets.install(app)
    errors.install(app)
