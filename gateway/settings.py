"""The gateway's settings: environment variables with the prefix UMI_, or arguments."""

from typing import Annotated

from pydantic import AnyHttpUrl, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

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

    document_seconds: Seconds = Field(default=10.0, description="Time for fetching a toolset's document.")
    document_bytes: int = Field(default=5_000_000, ge=1, description="Size limit of a fetched toolset document.")
    max_toolsets: int = Field(default=100, ge=1, description="How many toolsets a tenant may register.")
    max_body_bytes: int = Field(default=2_000_000, ge=1, description="Request bodies larger than this answer 413.")

    @property
    def role_urls(self) -> dict[Role, str]:
        """Base URL of each role service, without a slash at the end."""
        urls = {Role.PLANNER: self.planner_url, Role.CALLER: self.caller_url, Role.SUMMARIZER: self.summarizer_url}
        return {role: str(url).rstrip("/") for role, url in urls.items()}
