"""Every error UMi raises on purpose, in one tree.

UmiError
├── BadInput                 tell the user what to change; nothing was done
│   ├── UnknownTool          a tool name that is not registered
│   ├── BadDocument          a toolset document that is not usable OpenAPI
│   ├── BadCheckpoint        a checkpoint whose manifest, files or fit are wrong
│   ├── NoRegistry           the registry of weights cannot be reached, or not under this URL
│   ├── ContextOverflow      the prompt cannot be made to fit the model's window
│   └── Outdated             a release was changed by somebody else meanwhile
├── Unreachable              a toolset document could not be fetched
├── NoResponse               a request to a tool brought no response; becomes an observation, the planner reacts
│   ├── Forbidden            it must not go where it leads
│   ├── NotReached           no connection, or one that broke
│   │   └── Resting          its host has failed so often that it is left alone for a while
│   ├── TimedOut             no end of the response in time
│   └── TooLarge             the response has more bytes than are read
├── RoleFailure              a role service did not do its part; the run ends as failed
│   ├── RoleUnavailable      down, not ready, or no answer within the deadline
│   ├── RoleOverloaded       it asks to come back later (`retry_after`, seconds)
│   └── RoleOutputInvalid    its text does not follow the role's grammar
├── ClientError              what the Python client raises: its own tree stands in umi/client/errors.py
├── TrainingStopped          a stage of training cannot go on; its whole checkpoints are there to go on from
└── CallRejected             a call that must not be sent; becomes an observation, the planner reacts
"""


class UmiError(Exception):
    """Base of all errors that carry a message fit for a user."""


class BadInput(UmiError):
    """The caller of UMi must change something. `field` names the part of the input that is wrong."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnknownTool(BadInput):
    """A query names a tool that no toolset holds."""


class BadDocument(BadInput):
    """A toolset document is not OpenAPI 3 or Swagger 2.0, or no operation in it can be used."""


class BadCheckpoint(BadInput):
    """A checkpoint directory must not be served: the message says which file or field is wrong."""


class NoRegistry(BadInput):
    """The store of the registry of weights does not answer or does not let us in, or nothing here speaks to it."""


class ContextOverflow(BadInput):
    """Tools, query and newest step alone are longer than the role's input window."""


class Outdated(BadInput):
    """A decision about a release was made on a generation that is no longer the present one."""


class Unreachable(UmiError):
    """A document that a user named by URL could not be fetched."""


class NoResponse(UmiError):
    """A request sent to the outside, or kept from it. The message goes on after "The tool" or a URL."""


class Forbidden(NoResponse):
    """The request, or a redirect of it, leads where its toolset must not go."""


class NotReached(NoResponse):
    """Nothing answered at the address, or the answer broke off."""


class Resting(NotReached):
    """Nothing was sent: the host has failed several times in a row and is left alone for a while."""


class TimedOut(NoResponse):
    """The response was not complete in time."""


class TooLarge(NoResponse):
    """The response, as sent or decompressed, is larger than `max_bytes`; `status` is its status."""

    def __init__(self, max_bytes: int, status: int) -> None:
        super().__init__(f"answered with more than {max_bytes} bytes")
        self.max_bytes, self.status = max_bytes, status


class RoleFailure(UmiError):
    """A role did not do its part. `role` names it."""

    def __init__(self, role: str, message: str) -> None:
        super().__init__(f"{role}: {message}")
        self.role = role


class RoleUnavailable(RoleFailure):
    """The role's service is down, not ready or too slow for the run's deadline."""


class RoleOverloaded(RoleFailure):
    """The role's service has a full queue; come back after `retry_after` seconds."""

    def __init__(self, role: str, message: str, retry_after: float = 1.0) -> None:
        super().__init__(role, message)
        self.retry_after = retry_after


class RoleOutputInvalid(RoleFailure):
    """The role's model wrote something that its grammar does not allow, or was cut off at its token limit."""


class TrainingStopped(UmiError):
    """The loss is no number, or a checkpoint could not be written: the message says what it goes on from."""


class CallRejected(UmiError):
    """A tool call that must not leave the process: unknown tool, arguments that break the schema, forbidden address."""


def first_line(error: Exception) -> str:
    """What another program's error says, for people: its first line, or its kind when it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
