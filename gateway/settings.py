"""The gateway's settings: environment variables with the prefix UMI_, or arguments."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AnyHttpUrl, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.egress.client import Limits
from gateway.egress.permission import parse_entry
from umi.errors import BadInput
from umi.roles import Role

Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseSettings):
    """Every field can be set as UMI_<FIELD>; the description is its documentation."""

    model_config = SettingsConfigDict(env_prefix="UMI_", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    database: str = Field(default="sqlite:///var/umi.db", description="SQLite file or PostgreSQL database (URL).")
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

    planner_url: AnyHttpUrl = Field(
        default=AnyHttpUrl("http://127.0.0.1:8101"), description="Where the planner is served."
    )
    caller_url: AnyHttpUrl = Field(
        default=AnyHttpUrl("http://127.0.0.1:8102"), description="Where the caller is served."
    )
    summarizer_url: AnyHttpUrl = Field(
        default=AnyHttpUrl("http://127.0.0.1:8103"), description="Where the summarizer is served."
    )
    role_connect_tries: int = Field(
        default=2, ge=1, le=10, description="How often a role that refuses connections is tried."
    )
    role_connections: int = Field(
        default=512, ge=1, description="Connections that may be open to role services at once."
    )

    max_offered: int = Field(
        default=10, ge=1, le=64, description="Tools shown to the roles; with more, a retriever picks."
    )
    tool_seconds: Seconds = Field(default=10.0, description="Time for one tool call, from connecting to the last byte.")
    tool_bytes: int = Field(default=1_000_000, ge=1, description="A tool's response larger than this is not shown.")
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

    secrets_directory: Path | None = Field(
        default=None, description="Where registrations may name files that hold secrets of tools, such as /run/secrets."
    )

    registry: str | None = Field(
        default=None,
        description="The registry of weights (directory, or URL such as s3://…) that /v1/weights shows and changes.",
    )

    @field_validator("tool_allow", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        return [entry for entry in given.replace(",", " ").split() if entry] if isinstance(given, str) else given

    @field_validator("tool_allow")
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
            connect_seconds=self.tool_connect_seconds,
            read_seconds=self.tool_read_seconds,
            tries=self.tool_tries,
        )

    @property
    def document_limits(self) -> Limits:
        """Of fetching one toolset document."""
        return replace(self.tool_limits, seconds=self.document_seconds, bytes=self.document_bytes)

    @property
    def role_urls(self) -> dict[Role, str]:
        """Base URL of each role service, without a slash at the end."""
        urls = {Role.PLANNER: self.planner_url, Role.CALLER: self.caller_url, Role.SUMMARIZER: self.summarizer_url}
        return {role: str(url).rstrip("/") for role, url in urls.items()}
