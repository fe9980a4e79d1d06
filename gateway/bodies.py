"""Bodies of the REST API."""

from typing import Annotated, Self

from pydantic import AfterValidator, AnyHttpUrl, BaseModel, ConfigDict, Field, model_validator

from gateway.store import Delivery, RunRow
from gateway.store.rows import NAME
from umi.openapi import OperationReport
from umi.trajectory import JsonObject, ToolSpec


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


class Body(BaseModel):
    """A request body; a misspelt field is an error."""

    model_config = ConfigDict(extra="forbid")


def _without_user(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold a user name or password")
    return url


class Webhook(Body):
    """Who is to be told that a run has ended."""

    url: Annotated[AnyHttpUrl, Field(max_length=2048), AfterValidator(_without_user)]


class QueryBody(Body):
    """A query for the agent."""

    query: Annotated[str, Field(min_length=1, max_length=8000), AfterValidator(_not_blank)]
    tools: Annotated[list[str], Field(max_length=1000)] | None = Field(
        None, description="Names of the tools that may be used; all when absent."
    )
    max_steps: int = Field(8, ge=1, le=32, description="How many turns the planner has, the concluding one included.")
    deadline_seconds: float = Field(120.0, gt=0, le=600)
    stream: bool = Field(False, description="Answer with server-sent events as the run goes on.")
    background: bool = Field(False, description="Answer at once with 202 and the run's id; look at the run later.")

    webhook: Webhook | None = Field(
        None, description="With `background`: a signed POST goes there when the run has ended."
    )

    @model_validator(mode="after")
    def _one_way_of_answering(self) -> Self:
        if self.stream and self.background:
            raise ValueError("choose one of stream and background")
        if self.webhook is not None and not self.background:
            raise ValueError('a webhook is for a run in the background: add "background": true')
        return self


class RunList(BaseModel):
    """A page of runs, newest first. `next` is the cursor of the page that follows, if there is one."""

    runs: list[RunRow]
    next: str | None = None


class DeliveryList(BaseModel):
    """A page of webhooks, those of the newest runs first. `next` is the cursor of the page that follows, if any."""

    webhooks: list[Delivery]
    next: str | None = None


class ToolsetBody(Body):
    """A toolset to register: the address of an OpenAPI document, or the document itself."""

    name: Annotated[str, Field(pattern=NAME)]
    url: Annotated[AnyHttpUrl, Field(max_length=2048), AfterValidator(_without_user)] | None = None
    document: JsonObject | None = None
    base_url: Annotated[AnyHttpUrl, Field(max_length=2048), AfterValidator(_without_user)] | None = Field(
        None, description="Where the operations' paths are appended, in place of the document's servers."
    )

    allow: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=50)] = Field(
        [],
        description="Hosts, addresses and networks, such as localhost or 10.1.0.0/16, that its calls may reach though "
        "they are not public, or may be redirected to.",
    )

    secrets: Annotated[dict[str, Annotated[str, Field(max_length=120)]], Field(max_length=20)] = Field(
        {},
        description="Security scheme of the document to where its secret is: env:UMI_SECRET_NAME, or file:NAME in the "
        "gateway's directory of secrets. Basic authentication and OAuth 2 take user:password and id:secret.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.document is None):
            raise ValueError("give either url or document")
        return self


class ToolView(BaseModel):
    """A registered tool."""

    name: str
    summary: str
    toolset: str
    method: str
    path: str
    spec: ToolSpec


class ToolsetView(BaseModel):
    """A registered toolset."""

    name: str
    url: str | None
    base_url: str
    tools: list[str]


class RegisteredToolset(ToolsetView):
    """A toolset that was just registered, and what became of each operation of its document."""

    report: list[OperationReport]
