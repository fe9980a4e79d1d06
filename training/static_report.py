"""What a static evaluation says: the paper's metrics with intervals, what differs beyond chance, and what it cost."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.metrics import Mode, mean_scores
from training.report import file_of
from training.served import NAMES
from training.static import StepResult
from training.statistics import bootstrap, by_task, compare
from training.systems import SYSTEMS
from umi.errors import BadInput
from umi.manifest import Checkpoint
from umi.roles import Turn

METRICS = {
    "plan_acc": "Plan ACC",
    "action_em": "Act. EM",
    "hallucination": "Hallu.",
    "argument_f1": "Arg. F1",
    "rouge_l": "R-L",
}
"""Field of a step's score to the paper's name."""
PAPER = {
    "single-llm": "84.61 / 56.54 / 2.26 / 50.09 / 47.99",
    "single-multi-task": "86.55 / 56.89 / 2.77 / 49.50 / 32.58",
    "multi-one-stage": "88.42 / 53.40 / 2.52 / 45.79 / 46.39",
    "umi-without-reuse": "87.91 / 58.02 / 2.32 / 50.55 / 42.59",
    "umi": "89.72 / 60.47 / 0.45 / 53.60 / 46.26",
}
"""The paper's 7B figures out of domain (arXiv 2401.07324), per cent, in the order of METRICS."""
_OURS = "umi"
_SEED, _LEVEL = 7, 0.05
Results = Mapping[str, Sequence[StepResult]]


def read(folder: Path) -> dict[str, list[StepResult]]:
    """The results that are there, by system, in the order of tables."""
    found: dict[str, list[StepResult]] = {}
    for system in NAMES:
        file = file_of(folder, system)
        if file.exists() and (lines := file.read_text("utf-8").splitlines()):
            found[system] = [StepResult.model_validate_json(line) for line in lines]
    return found


def report(results: Results, systems: Path | None = None) -> str:
    """All tables as Markdown; costs of training only with the folder in which the systems were trained."""
    parts = [scores(results), roles(results)]
    if len({step.source for steps in results.values() for step in steps}) > 1:
        parts.append(domains(results))
    if _OURS in results and len(results) > 1:
        parts.append(differences(results))
    if systems is not None:
        parts.append(costs(results, systems))
    return "\n\n".join(parts)


def scores(results: Results) -> str:
    """The paper's metrics in per cent, a row for each system; 95 % intervals over trajectories."""
    lines = _head("", *METRICS.values(), "steps", "failed", "the paper's 7B")
    for system, steps in results.items():
        failed = sum(step.failure is not None for step in steps)
        cells = [_score(name, steps) for name in METRICS]
        lines.append(_row(_title(system), *cells, len(steps), failed, PAPER.get(system, "")))
    return "\n".join(lines)


def roles(results: Results) -> str:
    """What each role does alone: turns planned rightly by what was due, and the others' turns where theirs was due."""
    lines = _head("", *(f"planner: {turn}" for turn in Turn), "caller: Act. EM", "caller: Arg. F1", "summarizer: R-L")
    for system, steps in results.items():
        due = {turn: [step for step in steps if _due(step) is turn] for turn in Turn}
        right = {turn: [step for step in due[turn] if step.turn is turn] for turn in Turn}
        planned = [f"{len(right[turn])} of {len(due[turn])}" for turn in Turn]
        called = [_score(name, right[Turn.CALLER]) for name in ("action_em", "argument_f1")]
        lines.append(_row(_title(system), *planned, *called, _score("rouge_l", right[Turn.CONCLUSION])))
    lines += ["", "Caller and summarizer: only steps at which the planner rightly gave them their turn."]
    return "\n".join(lines)


def domains(results: Results) -> str:
    """The paper's metrics by the source of the trajectories."""
    lines = _head("", "of", *METRICS.values(), "steps")
    for system, steps in results.items():
        for source in sorted({step.source for step in steps}):
            own = [step for step in steps if step.source == source]
            lines.append(_row(_title(system), source, *(_score(name, own) for name in METRICS), len(own)))
    return "\n".join(lines)


def differences(results: Results) -> str:
    """α-UMi with reuse minus each other system in points, on the steps that both have done."""
    lines = _head(f"{_title(_OURS)} minus", *METRICS.values())
    for system, steps in results.items():
        if system != _OURS:
            lines.append(_row(_title(system), *(_difference(name, steps, results[_OURS]) for name in METRICS)))
    lines += ["", "95 % intervals; p by a paired permutation test over trajectories; no correction for many tests."]
    return "\n".join(lines)


def costs(results: Results, folder: Path) -> str:
    """What each system takes: to store, to train and to use."""
    lines = _head(
        "", "checkpoints, MiB", "tokens trained on", "minutes of training", "tokens a step", "history shortened"
    )
    for system, steps in results.items():
        if system not in SYSTEMS:
            continue
        size = sum(_size(checkpoint) for checkpoint in SYSTEMS[system].checkpoints(folder)) / 2**20
        manifests = [Checkpoint.open(folder / name).manifest for name in SYSTEMS[system].stages()]
        tokens = sum(manifest.metrics.get("tokens", 0) for manifest in manifests)
        minutes = sum(manifest.metrics.get("seconds", 0) for manifest in manifests) / 60
        used = statistics.mean(step.tokens for step in steps)
        shortened = sum(step.shortened for step in steps)
        row = f"{size:.1f}", f"{tokens:,.0f}", f"{minutes:.0f}", f"{used:,.0f}", f"{shortened} of {len(steps)}"
        lines.append(_row(_title(system), *row))
    return "\n".join(lines)


def plot(results: Results, path: Path) -> None:
    """The metrics of every system with their intervals, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    width = 0.8 / len(results)
    for number, (system, steps) in enumerate(results.items()):
        found = [_interval(name, steps) for name in METRICS]
        places = [place + (number - (len(results) - 1) / 2) * width for place in range(len(METRICS))]
        heights = [100 * value for value, _, _ in found]
        around = [[100 * (value - low) for value, low, _ in found], [100 * (high - value) for value, _, high in found]]
        axes.bar(places, heights, width, yerr=around, capsize=2, label=_title(system))
    axes.set(ylabel="per cent, 95 % intervals", ylim=(0, 100))
    axes.set_xticks(range(len(METRICS)), list(METRICS.values()))
    axes.legend(fontsize="small", ncols=3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _due(step: StepResult) -> Turn:
    """The turn that the annotation has."""
    if step.score.action_em is not None:
        return Turn.CALLER
    return Turn.GIVE_UP if step.score.rouge_l is None else Turn.CONCLUSION


def _title(system: str) -> str:
    return SYSTEMS[system].title if system in SYSTEMS else system


def _values(name: str, steps: Sequence[StepResult]) -> dict[str, list[float]]:
    return by_task([step.id for step in steps], [getattr(step.score, name) for step in steps])


def _interval(name: str, steps: Sequence[StepResult]) -> tuple[float, float, float]:
    """Mean and bounds; all 0 without a step that counts."""
    if not getattr(mean_scores([step.score for step in steps], Mode.REPAIRED), name).count:
        return 0.0, 0.0, 0.0
    found = bootstrap(_values(name, steps), seed=_SEED)
    return found.value, found.low, found.high


def _score(name: str, steps: Sequence[StepResult]) -> str:
    if not any(getattr(step.score, name) is not None for step in steps):
        return ""
    value, low, high = _interval(name, steps)
    return f"{100 * value:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def _difference(name: str, other: Sequence[StepResult], ours: Sequence[StepResult]) -> str:
    both = {(step.id, step.step) for step in other} & {(step.id, step.step) for step in ours}
    first, second = (_values(name, [step for step in steps if (step.id, step.step) in both]) for steps in (other, ours))
    try:
        gap = compare(first, second, seed=_SEED)
    except BadInput:  # no step counts for this metric
        return ""
    low, value, high = (100 * part for part in (gap.difference.low, gap.difference.value, gap.difference.high))
    verdict = f"p = {gap.p_value:.3f}" if gap.p_value < _LEVEL else f"not significant, p = {gap.p_value:.2f}"
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f}), {verdict}"


def _size(checkpoint: Path) -> int:
    return sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))


def _head(*names: str) -> list[str]:
    return [_row(*names), "| " + " | ".join(["---"] * len(names)) + " |"]


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
