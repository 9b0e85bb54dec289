"""All tables, one file per family. Importing this package registers them on `Table.metadata`."""

from core.tables.accounts import Account, Token
from core.tables.audit import AuditEvent
from core.tables.base import Table
from core.tables.billing import LedgerEntry, Price, UsageDay, UsageHour, UsageRecord, UsageTag, Volume
from core.tables.catalog import Collection, CollectionModel, Hardware, Model, ModelExample, Version
from core.tables.deployments import Deployment, Release
from core.tables.events import Event
from core.tables.files import File
from core.tables.fleet import CapacityHour, Instance, InstanceTime, Node
from core.tables.invoices import BillingProfile, Invoice, InvoiceSeries
from core.tables.joining import JoinToken, Member
from core.tables.logins import Login, Session
from core.tables.payments import PaymentEvent, PaymentMethod, TopUp
from core.tables.predictions import Prediction
from core.tables.requests import IdempotencyKey
from core.tables.wallets import Alert, Credit, CreditBurn, SpendLimit, Wallet, WalletPosting
from core.tables.webhooks import WebhookAttempt, WebhookDelivery

__all__ = [
    "Account",
    "Alert",
    "AuditEvent",
    "BillingProfile",
    "CapacityHour",
    "Collection",
    "CollectionModel",
    "Credit",
    "CreditBurn",
    "Deployment",
    "Event",
    "File",
    "Hardware",
    "IdempotencyKey",
    "Instance",
    "InstanceTime",
    "Invoice",
    "InvoiceSeries",
    "JoinToken",
    "LedgerEntry",
    "Login",
    "Member",
    "Model",
    "ModelExample",
    "Node",
    "PaymentEvent",
    "PaymentMethod",
    "Prediction",
    "Price",
    "Release",
    "Session",
    "SpendLimit",
    "Table",
    "Token",
    "TopUp",
    "UsageDay",
    "UsageHour",
    "UsageRecord",
    "UsageTag",
    "Version",
    "Volume",
    "Wallet",
    "WalletPosting",
    "WebhookAttempt",
    "WebhookDelivery",
]
