"""All tables, one file per family. Importing this package registers them on `Table.metadata`."""

from core.tables.accounts import Account, Token
from core.tables.base import Table
from core.tables.billing import LedgerEntry, UsageRecord
from core.tables.catalog import Collection, CollectionModel, Hardware, Model, ModelExample, Version
from core.tables.deployments import Deployment, Release
from core.tables.files import File
from core.tables.fleet import Instance, Node
from core.tables.predictions import Prediction
from core.tables.requests import IdempotencyKey
from core.tables.webhooks import WebhookAttempt, WebhookDelivery

__all__ = [
    "Account",
    "Collection",
    "CollectionModel",
    "Deployment",
    "File",
    "Hardware",
    "IdempotencyKey",
    "Instance",
    "LedgerEntry",
    "Model",
    "ModelExample",
    "Node",
    "Prediction",
    "Release",
    "Table",
    "Token",
    "UsageRecord",
    "Version",
    "WebhookAttempt",
    "WebhookDelivery",
]
