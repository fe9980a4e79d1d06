"""A trajectory built turn by turn, in the order in which a conversation tells it."""

from training.records import Record
from umi.errors import BadInput
from umi.roles import Role, Turn
from umi.trajectory import Call, JsonObject, Plan, Step, ToolSpec, Trajectory

HALLUCINATED = "invalid_hallucination_function_name"
"""What ToolBench puts in place of a tool that its annotator made up."""


class Chain:
    """The turns so far. Every method raises BadInput for a turn that cannot follow."""

    def __init__(self, query: str, tools: list[ToolSpec]) -> None:
        if not query.strip():
            raise BadInput("the query is empty", "query")
        self._query, self._tools = query, tuple(tools)
        self._steps: list[Step] = []
        self._unlearnt: list[tuple[int, Role]] = []
        self._user_turns: list[int] = []
        self._answer: str | None = None
        self._remarks = 0

    def user(self, text: str) -> None:
        """The user speaks again: see Record for where that is kept."""
        self._expect_open()
        if self._steps:
            self._steps[-1] = _with(self._steps[-1], observation=f"{self._steps[-1].observation}\n\n{text}")
        else:
            self._query += f"\n\n{text}"
        self._user_turns.append(len(self._steps))

    def remark(self) -> None:
        """The assistant says something that decides nothing; counted and left out."""
        self._remarks += 1

    def plan(self, rationale: str, turn: Turn) -> None:
        """The planner's turn, which opens a step."""
        self._expect_open()
        self._steps.append(Step(plan=Plan(rationale=rationale, turn=turn)))

    def call(self, tool: str, arguments: JsonObject) -> None:
        """The caller's turn. A made-up tool stays in the history and is nobody's target."""
        if not self._steps or self._steps[-1].plan.turn is not Turn.CALLER or self._steps[-1].call:
            raise BadInput("a call without a plan that hands over to the caller")
        self._steps[-1] = _with(self._steps[-1], call=Call(tool=tool, arguments=arguments))
        if HALLUCINATED in tool:
            self.unlearn(Role.PLANNER, Role.CALLER)

    def observe(self, text: str) -> None:
        """What came of the call."""
        if self._steps and self._steps[-1].plan.turn is not Turn.CALLER:
            self._expect_open()
        if not self._steps or self._steps[-1].call is None or self._steps[-1].observation is not None:
            raise BadInput("an observation without a call")
        self._steps[-1] = _with(self._steps[-1], observation=text)

    def answer(self, text: str) -> None:
        """The summarizer's turn."""
        if not self._steps or self._steps[-1].plan.turn is not Turn.CONCLUSION or self._answer is not None:
            raise BadInput("an answer without a plan that concludes")
        self._answer = text

    def unlearn(self, *roles: Role) -> None:
        """Turns of the newest step that are not to be learnt."""
        self._unlearnt += [(len(self._steps) - 1, role) for role in roles]

    def record(self, id: str, source: str) -> Record:
        """The whole. A chain may end anywhere after its first plan, as searches do that were cut off."""
        if not self._steps:
            raise BadInput("no turn of the assistant decides anything")
        return Record(
            id=id,
            source=source,
            trajectory=Trajectory(query=self._query, tools=self._tools, steps=tuple(self._steps)),
            answer=self._answer,
            unlearnt=tuple(sorted(set(self._unlearnt))),
            user_turns=tuple(self._user_turns),
            remarks=self._remarks,
        )

    def _expect_open(self) -> None:
        """Refuse to go on after an end, or while a call or its result is missing."""
        if not self._steps:
            return
        last = self._steps[-1]
        if last.plan.turn is not Turn.CALLER:
            raise BadInput(f"turns go on after Next: {last.plan.turn}.")
        if last.call is None:
            raise BadInput("a plan hands over to the caller, but no call follows")
        if last.observation is None:
            raise BadInput("turns go on after a call without an observation")


def _with(step: Step, **changes: Call | str) -> Step:
    return step.model_copy(update=changes)
