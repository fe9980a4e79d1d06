"""The static evaluation against scripted roles: every step from the annotated history, failures scored as wrong."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import Response

from tests.checkpoints import bare
from tests.fakes import Script, call, plan, serve
from training import static_report
from training.records import Record
from training.report import ROLES
from training.static import RoleServices, StepResult
from umi.roles import Role, Turn
from umi.trajectory import Step, ToolSpec, Trajectory

RECORD = Record(
    id="r1",
    source="test",
    trajectory=Trajectory(
        query="What is 2 + 3?",
        tools=(ToolSpec(name="add"), ToolSpec(name="subtract")),
        steps=(
            Step(plan=plan(Turn.CALLER), call=call("add", a=2, b=3), observation="5"),
            Step(plan=plan(Turn.CALLER), call=call("add", a=5, b=0), observation="5"),
            Step(plan=plan(Turn.CONCLUSION)),
        ),
    ),
    answer="It is 5",
)


@pytest.fixture(scope="module")
def roles() -> Iterator[tuple[Script, str]]:
    script = Script()
    with serve(script.app()) as url:
        yield script, url


@pytest.fixture
def script(roles: tuple[Script, str]) -> Script:
    roles[0].reset()
    roles[0].calls = [call("add", a=2, b=3), call("subtract", a=5, b=0)]
    roles[0].answer = "It is 5"
    return roles[0]


def predicted(url: str, known: set[tuple[str, int]] | None = None) -> list[StepResult]:
    async def collect() -> list[StepResult]:
        async with RoleServices(dict.fromkeys(Role, url), 4) as services:
            return [result async for result in services.predict_all([RECORD], "s", known or set())]

    return sorted(asyncio.run(collect()), key=lambda result: result.step)


def test_each_step_is_predicted_from_the_annotated_history_not_from_earlier_predictions(
    script: Script, roles: tuple[Script, str]
) -> None:
    first, second, last = predicted(roles[1])
    assert (first.score.plan_acc, first.score.action_em, first.score.argument_f1) == (1, 1, 1)
    assert (second.tool, second.score.action_em, second.score.argument_f1) == ("subtract", 0, 0)
    assert (last.turn, last.score.plan_acc) == (Turn.CONCLUSION, 1)
    assert last.score.rouge_l == pytest.approx(1)
    histories = [request.trajectory.steps for role, request in script.requests if role is Role.PLANNER]
    assert sorted(map(len, histories)) == [0, 1, 2]
    assert all(steps == RECORD.trajectory.steps[: len(steps)] for steps in histories)


def test_a_role_that_fails_is_a_wrong_step_with_its_reason(script: Script, roles: tuple[Script, str]) -> None:
    script.failures = [(Role.CALLER, Response("nonsense", 502))]
    results = predicted(roles[1], known={("r1", 1), ("r1", 2)})
    assert [(result.turn, result.score.plan_acc, result.score.action_em) for result in results] == [(Turn.CALLER, 1, 0)]
    assert str(results[0].failure).startswith("caller: 502: nonsense")


def test_a_full_queue_is_waited_for(script: Script, roles: tuple[Script, str]) -> None:
    script.failures = [(Role.PLANNER, Response("full", 503, {"retry-after": "0"}))]
    assert predicted(roles[1], known={("r1", 1), ("r1", 2)})[0].failure is None


def written(folder: Path, system: str, results: list[StepResult]) -> None:
    lines = "".join(result.model_dump_json() + "\n" for result in results)
    (folder / f"{system.replace(' ', '-')}.jsonl").write_text(lines)


def test_the_report_has_the_papers_metrics_with_intervals(
    script: Script, roles: tuple[Script, str], tmp_path: Path
) -> None:
    written(tmp_path, ROLES, predicted(roles[1]))
    text = static_report.report(static_report.read(tmp_path))
    assert "Plan ACC | Act. EM | Hallu. | Arg. F1 | R-L" in text
    assert "| three roles | 100.0 (100.0–100.0) | 50.0 (50.0–50.0) | 0.0 (0.0–0.0) | 50.0" in text
    assert "| 3 | 0 |  |\n\n" in text
    assert "| three roles | 2 of 2 | 1 of 1 | 0 of 0 | 50.0 (50.0–50.0) | 50.0" in text, "by role"
    static_report.plot(static_report.read(tmp_path), tmp_path / "metrics.png")
    assert (tmp_path / "metrics.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_are_shown_by_domain_where_there_are_several(
    script: Script, roles: tuple[Script, str], tmp_path: Path
) -> None:
    first, *others = predicted(roles[1])
    written(tmp_path, ROLES, [first.model_copy(update={"source": "finance"}), *others])
    rows = [line.split(" | ") for line in static_report.report(static_report.read(tmp_path)).splitlines()]
    found = {row[1]: (row[3], row[-1]) for row in rows if row[0] == "| three roles" and len(row) == 8}
    assert found == {
        "finance": ("100.0 (100.0–100.0)", "1 |"),
        others[0].source: ("0.0 (0.0–0.0)", "2 |"),
    }


def test_what_is_no_more_than_chance_is_called_not_significant(
    script: Script, roles: tuple[Script, str], tmp_path: Path
) -> None:
    good = predicted(roles[1])
    wrong = [result.model_copy(update={"score": result.score.model_copy(update={"plan_acc": 0.0})}) for result in good]

    def twenty(results: list[StepResult]) -> list[StepResult]:
        return [result.model_copy(update={"id": f"r{number}"}) for number in range(20) for result in results]

    written(tmp_path, "umi", twenty(good))
    written(tmp_path, "single-llm", [*twenty(wrong)[:57], *twenty(good)[57:]])
    written(tmp_path, "multi-one-stage", [*twenty(wrong)[:3], *twenty(good)[3:]])
    text = static_report.differences(static_report.read(tmp_path))
    (single,) = (line for line in text.splitlines() if line.startswith("| Single-LLM "))
    (one_stage,) = (line for line in text.splitlines() if line.startswith("| Multi-LLM"))
    assert single.split("|")[2].startswith(" +95.0 (+85.0 to +100.0), p = 0.000")
    assert "+5.0 (+0.0 to +15.0), not significant, p = 1.00" in one_stage


def test_costs_come_from_the_manifests_of_every_stage(
    script: Script, roles: tuple[Script, str], tmp_path: Path
) -> None:
    written(tmp_path, "umi", predicted(roles[1]))
    for stage in ("umi/global", "umi/planner", "umi/caller", "umi/summarizer"):
        bare(tmp_path / stage, version="v-1", metrics={"tokens": 1000, "seconds": 90})
    row = static_report.costs(static_report.read(tmp_path), tmp_path).splitlines()[-1]
    assert "| 4,000 | 6 |" in row
