"""Thin: parse, one verb, serialise. One file per noun, the same nouns as in core/."""

from fastapi import APIRouter

from api.routes import (
    account,
    audit,
    billing,
    collections,
    deployments,
    events,
    examples,
    files,
    fleet,
    invoices,
    models,
    payments,
    predictions,
    prices,
    search,
    streams,
    tokens,
    trainings,
    usage,
    versions,
    webhooks,
)

v1 = APIRouter(prefix="/v1")
for module in (
    predictions,
    events,
    streams,
    files,
    models,
    versions,
    examples,
    collections,
    search,
    account,
    webhooks,
    tokens,
    deployments,
    trainings,
    usage,
    billing,
    invoices,
    prices,
    audit,
    payments,
    fleet,
):
    v1.include_router(module.router)
