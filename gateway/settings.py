"""The gateway's settings: environment variables with the prefix UMI_, files of those names, or arguments."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import sqlalchemy as sa
from pydantic import AnyHttpUrl, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from gateway.egress.client import Limits
from gateway.egress.permission import parse_entry
from gateway.tools.endpoint import Endpoint
from gateway.webhooks.terms import Terms
from umi.errors import BadInput
from umi.logs import Style
from umi.observation import MAX_CHARS
from umi.roles import Role
from umi.settings import FileSettings

Seconds = Annotated[float, Field(gt=0, le=3600)]
Pause = Annotated[float, Field(gt=0, le=7 * 86_400)]


class Settings(FileSettings):
    """Every field can be set as UMI_<FIELD>, or as a file umi_<field> in the directory that UMI_SETTINGS_DIRECTORY
    names; the description is its documentation.
    """

    model_config = SettingsConfigDict(env_prefix="UMI_", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    database: str = Field(default="sqlite:///var/umi.db", description="SQLite file or PostgreSQL database (URL).")
    database_password: SecretStr | None = Field(
        default=None, description="Password of the database, in place of one in its URL."
    )
    first_key: SecretStr | None = Field(
        default=None,
        description="An API key for everything, umi_ID_SECRET, that a database gets which has never had a key.",
    )
    log: Style | None = Field(
        default=None, description="Log lines as json or text; when absent, text on a terminal and json otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level to log.")
    max_running: int = Field(
        default=1024, ge=1, description="Runs that go on at once; more wait, and tenants with few of them go first."
    )
    lease_seconds: Seconds = Field(
        default=15.0, description="A gateway silent for so long is taken for dead; others go on with its runs."
    )
    drain_seconds: float = Field(
        default=3.0,
        ge=0,
        le=3600,
        description="Once told to stop: wait so long for requests, then as long again for runs nobody waits for.",
    )

    approval_seconds: float = Field(
        default=86_400.0, gt=0, le=2_592_000, description="How long a run waits for a call to be approved."
    )

    planner_url: AnyHttpUrl = Field(
        default=AnyHttpUrl("http://127.0.0.1:8101"), description="Where the planner is served."
    )
    caller_url: AnyHttpUrl = Field(
        default=AnyHttpUrl("http://127.0.0.1:8102"), description="Where the caller is served."
    )
    summarizer_url: AnyHttpUrl = Field(
        default=AnyHttpUrl("http://127.0.0.1:8103"), description="Where the summarizer is served."
    )
    role_token: SecretStr | None = Field(
        default=None, min_length=16, description="What role services that have a token want to be shown."
    )
    role_patience_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="How long a turn is asked for again while its role is out of service, within the run's deadline.",
    )
    role_connections: int = Field(
        default=512, ge=1, description="Connections that may be open to role services at once."
    )

    max_offered: int = Field(
        default=10, ge=1, le=64, description="Tools shown to the roles; with more, a retriever picks."
    )
    embedding_url: AnyHttpUrl | None = Field(
        default=None,
        description="An OpenAI-compatible API, up to /v1, whose embeddings find tools by meaning, beside their words. "
        "It reads queries and the tools' documentation.",
    )
    embedding_model: str | None = Field(default=None, validate_default=True, description="The model to ask for there.")
    embedding_key: SecretStr | None = Field(default=None, description="The bearer token that it wants to be shown.")
    embedding_seconds: float = Field(
        default=1.0, gt=0, le=60, description="So long a query waits for it; then words alone count, for half a minute."
    )
    tool_seconds: Seconds = Field(default=10.0, description="Time for one tool call, from connecting to the last byte.")
    tool_bytes: int = Field(default=1_000_000, ge=1, description="A tool's response larger than this is not shown.")
    observation_characters: int = Field(
        default=MAX_CHARS,
        ge=100,
        description="A tool's response is shortened to so many; a role may shorten it further.",
    )
    tool_connect_seconds: Seconds = Field(default=5.0, description="Time for one connection to a tool's host.")
    tool_read_seconds: Seconds = Field(default=10.0, description="Time between two pieces of a tool's response.")
    tool_tries: int = Field(default=3, ge=1, le=10, description="How often a call that may be repeated is sent.")
    tool_concurrency: int = Field(default=64, ge=1, description="Calls that may be on their way to one host at once.")
    tool_failures: int = Field(
        default=5, ge=1, description="After so many failures in a row a tool's host is left alone for a while."
    )
    tool_rest_seconds: Seconds = Field(default=30.0, description="How long such a host is left alone.")
    tool_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts and networks, separated by commas, that toolsets may be at though they are not public, "
        "when whoever registers one names its URL.",
    )

    document_seconds: Seconds = Field(default=10.0, description="Time for fetching a toolset's document.")
    document_bytes: int = Field(default=5_000_000, ge=1, description="Size limit of a fetched toolset document.")
    max_toolsets: int = Field(default=100, ge=1, description="How many toolsets a tenant may register.")
    max_body_bytes: int = Field(default=2_000_000, ge=1, description="Request bodies larger than this answer 413.")

    mcp_commands: Annotated[tuple[tuple[str, ...], ...], NoDecode] = Field(
        default=(),
        description="Command lines, separated by semicolons or line ends, that toolsets may run on this machine as MCP "
        "servers: exactly these words. Nothing can be run by default.",
    )
    mcp_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Names, separated by commas, under which others reach the gateway's own MCP server at /mcp; "
        "any other name is taken for an attack by DNS rebinding.",
    )
    webhook_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="What the tenants' signing secrets are derived from, the same for all gateways on a database; "
        "without it there are no webhooks. `openssl rand -base64 32` makes one.",
    )
    webhook_seconds: float = Field(default=15.0, gt=0, le=60, description="Time for one attempt to send a webhook.")
    webhook_pauses: Annotated[tuple[Pause, ...], NoDecode] = Field(
        default=(5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="Seconds after each failed attempt, separated by commas; one attempt more, and it is given up.",
    )
    webhook_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts and networks, separated by commas, that webhooks may go to though they are not public.",
    )

    secrets_directory: Path | None = Field(
        default=None, description="Where registrations may name files that hold secrets of tools, such as /run/secrets."
    )

    registry: str | None = Field(
        default=None,
        description="The registry of weights (directory, or URL such as s3://…) that /v1/weights shows and changes.",
    )

    @field_validator("mcp_commands", mode="before")
    @classmethod
    def _commands(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        return [words for line in re.split(r"[;\n]", given) if (words := tuple(shlex.split(line)))]

    @field_validator("embedding_model")
    @classmethod
    def _named(cls, model: str | None, others: ValidationInfo) -> str | None:
        if others.data.get("embedding_url") and not model:
            raise ValueError("the endpoint at UMI_EMBEDDING_URL has to be told a model")
        return model

    @field_validator("tool_allow", "mcp_hosts", "webhook_allow", "webhook_pauses", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        return [entry for entry in given.replace(",", " ").split() if entry] if isinstance(given, str) else given

    @field_validator("tool_allow", "webhook_allow")
    @classmethod
    def _readable(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            try:
                parse_entry(entry)
            except BadInput as error:
                raise ValueError(str(error)) from error
        return entries

    @property
    def tool_limits(self) -> Limits:
        """Of one tool call."""
        return Limits(
            seconds=self.tool_seconds,
            bytes=self.tool_bytes,
            characters=self.observation_characters,
            connect_seconds=self.tool_connect_seconds,
            read_seconds=self.tool_read_seconds,
            tries=self.tool_tries,
        )

    @property
    def document_limits(self) -> Limits:
        """Of fetching one toolset document."""
        return replace(self.tool_limits, seconds=self.document_seconds, bytes=self.document_bytes)

    @property
    def embedding_endpoint(self) -> Endpoint | None:
        """Where tools and queries are embedded, if anywhere."""
        if self.embedding_url is None or self.embedding_model is None:
            return None
        key = self.embedding_key.get_secret_value() if self.embedding_key else None
        return Endpoint(str(self.embedding_url).rstrip("/"), self.embedding_model, key, self.embedding_seconds)

    @property
    def webhook_terms(self) -> Terms:
        """How webhooks are sent."""
        key = self.webhook_key.get_secret_value().encode() if self.webhook_key else None
        return Terms(key, self.webhook_seconds, self.webhook_pauses, self.webhook_allow)

    @property
    def database_url(self) -> str:
        """With its password: not for logs."""
        if self.database_password is None:
            return self.database
        parsed = sa.make_url(self.database).set(password=self.database_password.get_secret_value())
        return parsed.render_as_string(hide_password=False)

    @property
    def shown_to_roles(self) -> str | None:
        """The token that requests to role services carry."""
        return None if self.role_token is None else self.role_token.get_secret_value()

    @property
    def role_urls(self) -> dict[Role, str]:
        """Base URL of each role service, without a slash at the end."""
        urls = {Role.PLANNER: self.planner_url, Role.CALLER: self.caller_url, Role.SUMMARIZER: self.summarizer_url}
        return {role: str(url).rstrip("/") for role, url in urls.items()}
