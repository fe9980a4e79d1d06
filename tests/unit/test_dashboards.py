"""The dashboards name metrics, labels and values that are really exported."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.events import Outcome, ToolOutcome
from gateway.metrics import Metrics as GatewayMetrics
from services.metrics import Metrics as RoleMetrics
from tests.fakes import plan
from umi.roles import Role, Turn
from umi.wire import Agreement, PlanReply, Replica, Usage

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARDS = sorted(FOLDER.glob("*.json"))
SELECTOR = re.compile(r"\b(umi_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=|!=|=~|!~)\s*"([^"]*)"')


def exported() -> dict[str, dict[str, set[str]]]:
    """Every sample's name, its labels, and the values seen; `job` as deploy/observability/prometheus.yml sets it."""
    gateway = GatewayMetrics()
    with gateway.run(), gateway.role(Role.PLANNER):
        gateway.step()
    for outcome in Outcome:
        gateway.completed(outcome, 0.1)
    for outcome in ToolOutcome:
        gateway.tool("maths", outcome, 0.1)
    gateway.first_text(Role.PLANNER, 0.1)
    role = RoleMetrics(Role.PLANNER, lambda: 1)
    usage = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3, seconds=0.01)
    role.answered(PlanReply(version="v1", usage=usage, plan=plan(Turn.CALLER)))
    role.retried()
    shadow = Agreement(version="v2", turns=1, same=1, same_tool=1, failed=0, skipped=0)
    role.watch(
        lambda: Replica(role=Role.PLANNER, stable="v1", swaps=1, agreement=shadow, pause_seconds=0.1, swap_seconds=0.2)
    )
    found: dict[str, dict[str, set[str]]] = {}
    for job, text in (("gateway", gateway.render()), ("roles", role.text())):
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {"instance": set(), "job": set()})
                for name, value in {**sample.labels, "job": job}.items():
                    labels.setdefault(name, set()).add(value)
    return found


def queries(dashboard: Path) -> list[str]:
    content: dict[str, Any] = json.loads(dashboard.read_text())
    return [target["expr"] for panel in content["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_every_metric_label_and_value_of_a_dashboard_is_exported(dashboard: Path) -> None:
    known = exported()
    asked = queries(dashboard)
    assert len(asked) > 8
    for query in asked:
        for name, matchers in SELECTOR.findall(query):
            assert name in known, f"{query}: nobody exports {name}"
            for label, value in MATCHER.findall(matchers):
                assert value in known[name].get(label, set()), f"{query}: {name} has no {label}={value}"
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            names = {label.strip() for label in grouped.split(",")}
            offered = set().union(*(known[name] for name, _ in SELECTOR.findall(query)))
            assert names <= offered, f"{query}: {names - offered}"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_legends_name_labels_that_the_query_keeps(dashboard: Path) -> None:
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert "by (" not in target["expr"] or re.search(rf"by \([^)]*\b{label}\b", target["expr"]), target


def test_there_is_a_dashboard_of_the_agent_and_one_of_releases() -> None:
    assert [path.stem for path in DASHBOARDS] == ["agent", "releases"]
    assert len({json.loads(path.read_text())["uid"] for path in DASHBOARDS}) == 2
