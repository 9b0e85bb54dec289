"""All tables, one file per family. Importing this package registers them on `Table.metadata`."""

from core.tables.accounts import Account, Token
from core.tables.base import Table
from core.tables.billing import LedgerEntry, UsageRecord
from core.tables.catalog import Hardware, Model, Version
from core.tables.files import File
from core.tables.fleet import Instance, Node
from core.tables.predictions import Prediction
from core.tables.webhooks import WebhookAttempt, WebhookDelivery

__all__ = [
    "Account",
    "File",
    "Hardware",
    "Instance",
    "LedgerEntry",
    "Model",
    "Node",
    "Prediction",
    "Table",
    "Token",
    "UsageRecord",
    "Version",
    "WebhookAttempt",
    "WebhookDelivery",
]
