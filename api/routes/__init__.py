"""Thin: parse, one verb, serialise. One file per noun, the same nouns as in core/."""

from fastapi import APIRouter

from api.routes import (
    account,
    audit,
    billing,
    collections,
    deployments,
    examples,
    files,
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
):
    v1.include_router(module.router)
