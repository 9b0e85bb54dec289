"""What an operator may turn, read once from the environment (`MILLRACE_*`). The only reader of `os.environ`.

`.env.example` lists every one of them; a test keeps the two in step.
"""

import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024
_PREFIX = r"^[A-Za-z0-9-]{1,20}$"


class Settings(BaseSettings):
    """Every default suits one box started by `millrace up`."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", env_ignore_empty=True)

    data: Path = Field(Path(".millrace"), description="Folder that holds everything Millrace keeps on this machine.")
    host: str = Field("0.0.0.0", description="Address the api listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port the api listens on.")
    public_url: str = Field("", description="URL by which clients reach the api; empty: http://localhost:<port>.")
    installation: str = Field("millrace", description="Name of this installation; its containers carry it as a label.")
    secret: str = Field("", description="Key that signs capability URLs. Keep it; `millrace up` makes one.")

    database_url: str = Field("", description="postgresql://… of the database; empty: embedded by `millrace up`.")
    database_pool: int = Field(8, ge=1, description="Connections each process may hold.")
    redis_url: str = Field("", description="redis:// or unix:// URL; empty: embedded by `millrace up`.")
    files_url: str = Field("", description="Where files live (file://, s3://, gs://, az://); empty: under data.")

    admin_username: str = Field("admin", description="Account seeded on the first start.")
    admin_token: str = Field("", description="Its first token; empty: `millrace up` makes one.")
    admin_email: str = Field("admin@localhost", description="Email by which its owner logs in to the pages.")
    admin_password: str = Field(
        "", description="First password of that login, 10 characters or more; empty: `millrace up` makes one."
    )
    models: Path | None = Field(None, description="Folder of Cog projects published on start; empty: cog_models/.")

    file_outputs: Literal["auto", "url", "data"] = Field(
        "auto", description="How file outputs are given: url, data (URIs), or auto: data where public_url is not https."
    )
    inline_file_bytes: int = Field(1 * MIB, ge=0, description="Largest file output given as a data URI.")
    upload_bytes: int = Field(100 * MIB, ge=1, description="Largest file a client may upload.")
    body_bytes: int = Field(20 * MIB, ge=1024, description="Largest JSON body the api accepts.")
    upload_lifetime_seconds: int = Field(24 * 3600, ge=60, description="How long an uploaded file is kept.")

    retention_api_seconds: int = Field(
        3600, ge=0, description="Data of a prediction made over the API is removed so long after its end; 0: never."
    )
    retention_web_seconds: int = Field(0, ge=0, description="The same for predictions made on a page; 0: never.")
    idempotency_seconds: int = Field(24 * 3600, ge=60, description="How long an Idempotency-Key is remembered.")
    rate_creates_per_minute: int = Field(
        600, ge=0, description="Predictions an account may create in a minute; 0: without limit."
    )
    rate_calls_per_minute: int = Field(3000, ge=0, description="Other calls it may make; 0: without limit.")
    account_concurrency: int = Field(
        0, ge=0, description="Predictions an account may run at once, unless it has a limit of its own; 0: no limit."
    )
    show_aborted: bool = Field(
        False, description="Show `aborted`, which no official client knows, instead of `canceled`."
    )

    credit_limit: str = Field(
        "", description="What a new account may owe, in dollars: 0 is prepaid; empty: without limit."
    )
    starting_credit: str = Field("0", description="Dollars that a new account is given to begin with.")
    bill_instances: Literal["private", "always", "never"] = Field(
        "private",
        description="Whose time is billed from setup on: private models and deployments, everything, or only runs.",
    )
    refund_failures: str = Field(
        "", description="Failure codes whose runs are charged and refunded, with commas: container_lost,timeout."
    )

    seller_name: str = Field("", description="Who sells, as invoices name them; empty: no invoices are made.")
    seller_address: str = Field("", description="Their address, its lines separated by |.")
    seller_email: str = Field("", description="Where buyers may ask about an invoice.")
    seller_tax_id: str = Field("", description="Their tax number.")
    invoice_note: str = Field("", description="Stands at the end of every invoice: how to pay what is due.")
    invoice_prefix: str = Field(
        "INV", pattern=_PREFIX, description="Numbers of invoices begin with it: INV-2026-000001."
    )
    credit_note_prefix: str = Field("CN", pattern=_PREFIX, description="Numbers of credit notes begin with it.")

    stripe_secret_key: str = Field("", description="Key of a Stripe account that takes card payments; empty: none.")
    stripe_webhook_secret: str = Field("", description="Verifies its events, sent to /v1/billing/events/stripe.")
    stripe_api_url: str = Field("", description="Where Stripe is; empty: Stripe itself. Others are for tests.")

    node_name: str = Field("", description="Name of this node; empty: the host name.")
    node_address: str = Field("", description="Address by which model containers reach this node; empty: found out.")
    runtime: Literal["auto", "docker", "process"] = Field("auto", description="auto: docker where it answers.")
    docker_network: str = Field("millrace-models", description="Docker network of the model containers.")
    node_lease_seconds: float = Field(20.0, gt=0, description="A silent node is lost after this long.")
    node_heartbeat_seconds: float = Field(5.0, gt=0, description="How often a node reports.")
    drain_seconds: float = Field(10.0, ge=0, description="On SIGTERM, what a node runs may take so long to finish.")
    idle_seconds: float = Field(300.0, ge=0, description="An idle Instance is stopped after this long.")
    prediction_timeout_seconds: int = Field(1800, ge=1, description="Longest run of one prediction.")
    setup_timeout_seconds: int = Field(600, ge=1, description="Longest setup of one Instance.")
    cancel_grace_seconds: float = Field(5.0, ge=0, description="After this, a container that ignores cancel is killed.")

    gateway_port: int = Field(0, ge=0, le=65535, description="Port at which other machines join as nodes; 0: none do.")
    gateway_address: str = Field(
        "", description="host:port by which they reach it; empty: the host of public_url, or of this machine."
    )
    join: str = Field("", description="On another machine: the join token with which its node joins.")

    allow_private_webhooks: bool = Field(False, description="Deliver webhooks to private and loopback addresses.")
    log_level: str = Field("info", description="debug, info, warning or error.")
    log_json: bool = Field(True, description="Logs as JSON lines; off: for people.")

    @property
    def url(self) -> str:
        """Public URL without a trailing slash."""
        return (self.public_url or f"http://localhost:{self.port}").rstrip("/")

    @property
    def node(self) -> str:
        return self.node_name or socket.gethostname()

    @property
    def file_store_url(self) -> str:
        return self.files_url or f"file://{self.data.absolute()}/files"

    @property
    def inlines_files(self) -> bool:
        """Official clients turn `https:` and `data:` strings into FileOutput, and leave `http:` alone."""
        return self.file_outputs == "data" or (self.file_outputs == "auto" and not self.url.startswith("https:"))


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    return Settings()


def process_environment() -> Mapping[str, str]:
    """A copy of the environment, for children that need PATH, proxies and certificates."""
    return dict(os.environ)


def process_cpus() -> int:
    """Processors this process may use, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0))
