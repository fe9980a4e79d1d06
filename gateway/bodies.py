"""Bodies of the REST API."""

from typing import Annotated, Self

from pydantic import AfterValidator, AnyHttpUrl, BaseModel, ConfigDict, Field, model_validator

from gateway.policy import Policy
from gateway.store import Delivery, RunRow
from gateway.store.rows import NAME
from umi.openapi import OperationReport, Selection
from umi.trajectory import JsonObject, ToolSpec


def not_blank(text: str) -> str:
    """Text with something in it, for pydantic: raises ValueError."""
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _without_user(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold a user name or password")
    return url


Address = Annotated[AnyHttpUrl, Field(max_length=2048), AfterValidator(_without_user)]


class Body(BaseModel):
    """A request body; a misspelt field is an error."""

    model_config = ConfigDict(extra="forbid")


class Webhook(Body):
    """Who is to be told that a run has ended."""

    url: Annotated[AnyHttpUrl, Field(max_length=2048), AfterValidator(_without_user)]


class QueryBody(Body):
    """A query for the agent."""

    query: Annotated[str, Field(min_length=1, max_length=8000), AfterValidator(not_blank)]
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


class ApprovalBody(Body):
    """A person's decision on the call that a run waits with."""

    approve: bool = Field(strict=True)
    step: int = Field(ge=1, description="Of the run: the one whose call was looked at.")
    reason: Annotated[str, Field(max_length=1000)] | None = Field(None, description="The planner reads why not.")


class RunList(BaseModel):
    """A page of runs, newest first. `next` is the cursor of the page that follows, if there is one."""

    runs: list[RunRow]
    next: str | None = None


class DeliveryList(BaseModel):
    """A page of webhooks, those of the newest runs first. `next` is the cursor of the page that follows, if any."""

    webhooks: list[Delivery]
    next: str | None = None


Reference = Annotated[str, Field(max_length=120)]


class McpBody(Body):
    """An MCP server: the address of its streamable HTTP endpoint, or a command that speaks MCP over its pipes."""

    url: Address | None = None
    command: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(min_length=1, max_length=50)] | None
    ) = Field(None, description="A command line by words, exactly as the gateway's UMI_MCP_COMMANDS has it.")
    env: Annotated[dict[str, Reference], Field(max_length=20)] = Field(
        {}, description="Variables of the command's environment to where their values are, as in `secrets`."
    )
    trust_hints: bool = Field(
        False, description="Believe the server when it says that a tool changes nothing: policies then count on it."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.command is None):
            raise ValueError("give either url or command")
        if self.env and self.command is None:
            raise ValueError("env is for a command")
        return self


class ToolsetBody(Body):
    """A toolset to register: the address of an OpenAPI document, the document itself, or an MCP server."""

    name: Annotated[str, Field(pattern=NAME)]
    url: Address | None = None
    document: JsonObject | None = None
    mcp: McpBody | None = None
    base_url: Address | None = Field(
        None, description="Where the operations' paths are appended, in place of the document's servers."
    )

    allow: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=50)] = Field(
        [],
        description="Hosts, addresses and networks, such as localhost or 10.1.0.0/16, that its calls may reach though "
        "they are not public, or may be redirected to.",
    )

    secrets: Annotated[dict[str, Reference], Field(max_length=20)] = Field(
        {},
        description="Security scheme of the document to where its secret is: env:UMI_SECRET_NAME, or file:NAME in the "
        "gateway's directory of secrets. Basic authentication and OAuth 2 take user:password and id:secret. For an MCP "
        "server: `bearer`, or the name of a header.",
    )

    select: Selection = Field(
        Selection(), description="Which of the document's operations become tools; all but deprecated ones by default."
    )

    policy: Policy = Field(
        Policy.ALLOWED,
        description="Its calls are sent (`allowed`), tools that change something are not offered (`read_only`), or "
        "calls of such tools wait for approval (`needs_approval`).",
    )

    tool_policy: Annotated[dict[str, Policy], Field(max_length=1000)] = Field(
        {}, description="Exceptions, by tool name; with `needs_approval` every call of the tool waits."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.url, self.document, self.mcp].count(None) != 2:
            raise ValueError("give one of url, document and mcp")
        if self.mcp is not None and self.base_url is not None:
            raise ValueError("base_url is for documents")
        if self.mcp is not None and self.select != Selection():
            raise ValueError("select is for documents; of a server's tools, tool_policy withholds some")
        if self.mcp is not None and self.mcp.command is not None and (self.allow or self.secrets):
            raise ValueError(
                "a command takes its secrets in mcp.env, and what it reaches is not the gateway's to allow"
            )
        return self


class ToolView(BaseModel):
    """A registered tool. One of an MCP server has `tools/call` as its method, and the server's name for it as path.

    `version` is that of its toolset.
    """

    name: str
    summary: str
    toolset: str
    version: int
    method: str
    path: str
    changes_state: bool
    needs_approval: bool
    spec: ToolSpec


class ToolsetView(BaseModel):
    """A registered toolset. `base_url` of an MCP server is its URL, or its command line.

    `withheld` names the tools that its policy does not let be offered.
    """

    name: str
    version: int
    url: str | None
    base_url: str
    tools: list[str]
    select: Selection
    policy: Policy
    tool_policy: dict[str, Policy]
    withheld: list[str]


class RegisteredToolset(ToolsetView):
    """A toolset by itself, and what became of each operation or tool that it has."""

    report: list[OperationReport]


class ToolsetVersionView(RegisteredToolset):
    """A version of a toolset, as it was registered: its tools as models saw them, and the document that they are of.

    `replaced_at` is when it was current for the last time, None while it is; times are seconds since the epoch.
    """

    current: bool
    registered_at: float
    replaced_at: float | None
    digest: str
    specs: list[ToolView]
    document: JsonObject
