"""What may be called, and what a person has to approve first: said of a toolset, with exceptions for its tools."""

from collections.abc import Mapping
from enum import StrEnum


class Policy(StrEnum):
    """What is said of a toolset, or of one of its tools."""

    ALLOWED = "allowed"
    READ_ONLY = "read_only"
    """What changes something is not offered."""
    NEEDS_APPROVAL = "needs_approval"
    """Of a toolset: calls that change something wait for approval. Of a tool: every call of it does."""


class Decision(StrEnum):
    """What a policy comes to for one tool."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


def decide(policy: Policy, exceptions: Mapping[str, Policy], name: str, changes_state: bool) -> Decision:
    """The decision for the tool `name` of a toolset with `policy` and `exceptions`, by tool name."""
    own = exceptions.get(name)
    match own or policy:
        case Policy.ALLOWED:
            return Decision.ALLOW
        case Policy.READ_ONLY:
            return Decision.DENY if changes_state else Decision.ALLOW
        case Policy.NEEDS_APPROVAL:
            return Decision.ASK if changes_state or own is not None else Decision.ALLOW
