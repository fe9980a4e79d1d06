"""Drawing tasks: intent, wording and entities of one split, some slots nested, distractors, and now and then a trap."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from training.tasks.entities import Entity, Split, draw, holiday, unit_pair
from training.tasks.execute import Story, Tools, tell
from training.tasks.phrasing import decorate, expand, fill, misspell
from training.tasks.programs import INTENTS, Nested, Notes, Slot, answer
from training.tasks.task import Check, Kind, Task
from training.tasks.wordings import framed, nouns, wordings
from umi.roles import Turn
from umi.trajectory import Call, Plan, Step, Trajectory

_GIVES = {
    "city": ("capital", "capital", "largest_city", "airport_city"),
    "zone": ("capital", "largest_city"),
    "country": ("city_country",),
    "currency": ("country_currency",),
    "element": ("element_by_number",),
    "date": ("add_days", "find_holiday"),
}
_BOUNDS = (0.36, 0.53, 0.63, 0.73, 0.81, 0.87)
"""Up to which chance a task is single, nested, of several calls, a comparison, corrected, out of scope; others lack a
tool."""
_TRAINING_BOUNDS = (0.29, 0.48, 0.57, 0.76, 0.88, 0.92)
"""More of what is hard to learn."""
_FRAMED = 0.55
"""The share of training questions that are phrases in frames instead of templates."""
_BY_STATE = {"complete_todo", "delete_todo", "cancel_booking"}  # right answers depend on ids that earlier tasks left
_MISSPELLABLE = {"city", "country", "element"}
_LOWERED = {"city", "country", "element", "language"}


@dataclass(frozen=True)
class Draft:
    """A question before it is executed: what is asked, in which words, and what has to be true beforehand."""

    intent: str
    query: str
    slots: Mapping[str, Slot]
    kind: Kind
    setup: tuple[Call, ...] = ()


class Builder:
    """Draws tasks of one split. The same seed gives the same tasks."""

    def __init__(self, split: Split, seed: int, tools: Tools) -> None:
        self._split, self._tools = split, tools
        self._rng = random.Random(f"{seed}:{split}")
        self._bounds, self._deep = (_TRAINING_BOUNDS, 0.2) if split is Split.TRAIN else (_BOUNDS, 0.12)
        by_state = _BY_STATE if split is not Split.TRAIN else set[str]()
        self._intents = sorted(set(INTENTS) - by_state)
        self._comparisons = [name for name in self._intents if name.startswith("compare_")]
        self._nesting = [name for name in self._intents if INTENTS[name].nests]
        self._programs = [
            name for name in self._intents
            if name.startswith(("population_", "mass_", "elevation_m", "distance_other", "add_and"))
        ]  # fmt: skip
        self._stateful = {name for name in self._intents if INTENTS[name].is_effect}
        self._plain = sorted(set(self._intents) - set(self._comparisons) - set(self._programs))
        self._misspelt = [name for name in self._plain if _MISSPELLABLE & set(INTENTS[name].slots.values())]

    def tasks(self, count: int, group: int = 1) -> Iterator[Task]:
        """`count` tasks; each `group` of neighbours is offered the same tools, so that a batch reads them once."""
        made = 0
        while made < count:
            for task in self._group(min(group, count - made)):
                yield task.model_copy(update={"id": f"{self._split}-{made:05}"})
                made += 1

    def _group(self, size: int) -> Iterator[Task]:
        drafts = [self._draft() for _ in range(size)]
        needed: set[str] = set()
        stories: list[tuple[Draft, list[str]]] = []
        for draft in drafts:
            used = [step.call.tool for step in self._tell(draft, set(self._tools.operations)).steps if step.call]
            if draft.kind is not Kind.GIVE_UP and len(needed | set(used)) <= 7:
                needed |= set(used)
                stories.append((draft, used))
            elif draft.kind is Kind.GIVE_UP:
                stories.append((draft, used))
        offered = self._offer(needed, {tool for draft, used in stories if draft.kind is Kind.GIVE_UP for tool in used})
        for draft, _ in stories:
            if task := self._task(draft, offered):
                yield task

    def _offer(self, needed: set[str], missing: set[str]) -> list[str]:
        """3 to 8 tools: those needed, and distractors, half of them from the same services."""
        rng = self._rng
        others = sorted(set(self._tools.operations) - needed - missing)
        services = {self._tools.service_of[tool] for tool in needed | missing}
        siblings = [tool for tool in others if self._tools.service_of[tool] in services]
        offered = set(needed)
        size = max(len(needed), rng.randrange(3, 9))
        while len(offered) < size:
            offered.add(rng.choice(siblings if siblings and rng.random() < 0.5 else others))
        listed = [tool for tool in self._tools.operations if tool in offered]
        if rng.random() < 0.3:
            rng.shuffle(listed)
        return listed

    def _draft(self) -> Draft:
        rng, chance = self._rng, self._rng.random()
        single, nested, program, comparison, correction, out_of_scope = self._bounds
        if chance < single:
            return self._question(rng.choice(self._plain), Kind.SINGLE)
        if chance < nested:
            return self._question(rng.choice(self._nesting), Kind.CHAIN, nest=True)
        if chance < program:
            return self._question(rng.choice(self._programs), Kind.CHAIN)
        if chance < comparison:
            return self._question(rng.choice(self._comparisons), Kind.COMPARE)
        if chance < correction:
            return self._misspelling() if rng.random() < 0.8 else self._question("book_any", Kind.CORRECTION)
        if chance < out_of_scope:
            words = wordings("out_of_scope", self._split)
            return Draft("out_of_scope", decorate(expand(rng.choice(words), rng), rng), {}, Kind.GIVE_UP)
        return replace(self._question(rng.choice(self._plain), Kind.SINGLE), kind=Kind.GIVE_UP)

    def _misspelling(self) -> Draft:
        rng = self._rng
        draft = self._question(rng.choice(self._misspelt), Kind.CORRECTION, plain=True)
        kinds = INTENTS[draft.intent].slots
        slot = rng.choice([name for name in draft.slots if kinds[name] in _MISSPELLABLE])
        entity = draft.slots[slot]
        assert isinstance(entity, Entity)
        if len(entity.surface) < 5:
            return self._misspelling()
        wrong = misspell(entity.surface, rng)
        return replace(
            draft, query=draft.query.replace(entity.surface, wrong), slots={**draft.slots, slot: Entity(wrong, wrong)}
        )

    def _question(self, intent: str, kind: Kind, nest: bool = False, plain: bool = False) -> Draft:
        """A question of an intent: its slots drawn (one or more of them nested when `nest`) and worded."""
        rng = self._rng
        kinds = INTENTS[intent].slots
        slots: dict[str, Slot] = {}
        surfaces: dict[str, str] = {}
        nested = {rng.choice(INTENTS[intent].nests)} if nest else set[str]()
        if nest and rng.random() < 0.3:
            nested |= set(INTENTS[intent].nests)
        for name, what in kinds.items():
            if name in nested:
                slots[name], surfaces[name] = self._nested(what, deep=rng.random() < self._deep)
            elif what.endswith("*"):
                count = 2 if rng.random() < 0.65 else 3
                items = self._distinct(what[:-1], count)
                texts = [item.surface for item in items]
                slots[name] = Entity("", [item.value for item in items])  # type: ignore[arg-type]
                surfaces[name] = ", ".join(texts[:-1]) + " or " + texts[-1]
            elif what != "paired":
                entity = self._draw(what, lower=not plain)
                slots[name], surfaces[name] = entity, entity.surface
        if intent == "find_holiday":
            country, day = holiday(self._split, rng)
            slots |= {"country": country, "holiday": day}
        if intent == "convert_units":
            slots["from"], slots["to"] = unit_pair(rng)
        surfaces |= {name: slot.surface for name, slot in slots.items() if isinstance(slot, Entity) and slot.surface}
        ordered = {name: slots[name] for name in kinds}
        query = decorate(fill(self._wording(intent), surfaces, rng), rng)
        return Draft(intent, query, ordered, kind, self._setup(intent, ordered, kind))

    def _wording(self, intent: str) -> str:
        if self._split is Split.TRAIN and self._rng.random() < _FRAMED:
            return framed(intent, self._rng)
        return self._rng.choice(wordings(intent, self._split))

    def _setup(self, intent: str, slots: Mapping[str, Slot], kind: Kind) -> tuple[Call, ...]:
        """The state that a question supposes: the room is taken, the list is not empty, the id exists (mostly)."""
        rng = self._rng
        values = {name: slot.value for name, slot in slots.items() if isinstance(slot, Entity)}
        if intent == "book_any" and kind is Kind.CORRECTION:
            return (Call(tool="book_room", arguments={**values, "name": "Facilities"}),)
        if intent == "cancel_booking":
            count = int(values["id"]) - 4 if rng.random() < 0.85 else 0  # type: ignore[arg-type]
            return tuple(
                Call(
                    tool="book_room",
                    arguments={"room": "Dune", "date": f"2031-05-{i // 10 + 1:02}", "hour": 8 + i % 10, "name": "Ada"},
                )
                for i in range(count)
            )
        if "todo" in intent or intent in {"list_done", "add_and_complete"}:
            count = int(values["id"]) if "id" in values and rng.random() < 0.85 else rng.randrange(4)  # type: ignore[arg-type]
            titles = [draw("title", self._split, rng).surface for _ in range(count)]
            done = (Call(tool="complete_todo", arguments={"id": 1}),) if intent == "list_done" and count else ()
            return (*(Call(tool="add_todo", arguments={"title": title}) for title in titles), *done)
        return ()

    def _nested(self, kind: str, deep: bool) -> tuple[Nested, str]:
        rng = self._rng
        intent = rng.choice(_GIVES[kind])
        phrases = nouns()[intent]["train" if self._split is Split.TRAIN else "unseen"]
        slots: dict[str, Slot] = {}
        surfaces: dict[str, str] = {}
        for name, what in INTENTS[intent].slots.items():
            if deep and what in {"city", "country"}:
                slots[name], surfaces[name] = self._nested(what, deep=False)
            elif what != "paired":
                entity = self._draw(what)
                slots[name], surfaces[name] = entity, entity.surface
        if intent == "find_holiday":
            country, day = holiday(self._split, rng)
            slots = {"country": country, "holiday": day, "year": slots["year"]}
            surfaces |= {"country": country.surface, "holiday": day.surface}
        text = expand(rng.choice(phrases), rng)
        for name, surface in surfaces.items():
            text = text.replace("{" + name + "}", surface)
        return Nested(intent, slots), text

    def _distinct(self, kind: str, count: int) -> list[Entity]:
        found: dict[Any, Entity] = {}
        while len(found) < count:
            entity = self._draw(kind, lower=False)
            found.setdefault(entity.value, entity)
        return list(found.values())

    def _draw(self, kind: str, lower: bool = True) -> Entity:
        entity = draw(kind, self._split, self._rng)
        if lower and kind in _LOWERED and self._rng.random() < 0.06:
            return Entity(entity.surface.lower(), str(entity.value).lower())
        return entity

    def _tell(self, draft: Draft, offered: set[str]) -> Story:
        if draft.intent == "out_of_scope":
            plan = Plan(rationale="No offered tool can do this.", turn=Turn.GIVE_UP)
            return Story((Step(plan=plan),), None, False)
        if draft.intent in self._stateful:
            self._tools.reset()
        for call in draft.setup:
            self._tools.call(call.tool, call.arguments)
        notes: Notes = []
        return tell(answer(draft.intent, draft.slots, notes), notes, self._tools, offered)

    def _task(self, draft: Draft, offered: list[str]) -> Task | None:
        """Execute a draft with the tools offered; None when it did not become a task of its kind."""
        story = self._tell(draft, set(offered))
        calls = [step.call for step in story.steps if step.call]
        if len(calls) > 5 or (draft.kind is Kind.CORRECTION and not story.corrected):
            return None
        kind = draft.kind
        if story.found is None:
            kind = Kind.GIVE_UP
        elif story.corrected:
            kind = Kind.CORRECTION
        else:
            kind = Kind.COMPARE if kind is Kind.COMPARE else Kind.CHAIN if len(calls) > 1 else Kind.SINGLE
        specs = tuple(self._tools.operations[name].tool for name in offered)
        found = story.found
        return Task(
            id="",
            split=self._split,
            kind=kind,
            intent=draft.intent,
            trajectory=Trajectory(query=draft.query, tools=specs, steps=story.steps),
            answer=found.answer if found else None,
            check=self._check(draft, story, calls),
            setup=draft.setup,
        )

    def _check(self, draft: Draft, story: Story, calls: list[Call]) -> Check:
        if story.found is None:
            return Check(gives_up=True)
        if INTENTS[draft.intent].is_effect:
            free = (
                {"room"} if draft.intent == "book_any" else {"id"} if draft.intent == "add_and_complete" else set[str]()
            )
            wanted = {name: value for name, value in calls[-1].arguments.items() if name not in free}
            return Check(effect=Call(tool=calls[-1].tool, arguments=wanted))
        return Check(expected=story.found.expected, rivals=story.found.rivals)
