"""The three roles of the agent and the turns a planner can choose between (α-UMi, arXiv 2401.07324)."""

from enum import StrEnum


class Role(StrEnum):
    """One of the three small LLMs."""

    PLANNER = "planner"
    CALLER = "caller"
    SUMMARIZER = "summarizer"


class Turn(StrEnum):
    """What a planner's rationale ends in: whose turn it is, or that there will be no answer."""

    CALLER = "caller"
    CONCLUSION = "conclusion"
    GIVE_UP = "give up"
