"""The command that holds our metrics against figures of the original evaluator."""

from pathlib import Path

import typer
from pydantic import BaseModel, ValidationError

from training.metrics import Mode, Scores, StepScore, mean_scores, read_output, score_step
from umi.errors import BadInput
from umi.trajectory import Frozen

TOLERANCE = 1e-9


class Figures(Frozen):
    """What the original evaluator prints, under its own names."""

    plan_em: float
    action_em: float
    hallu_rate: float
    f1: float
    easy_f1: float
    hard_f1: float
    rouge: float


FIELDS = {
    "plan_em": "plan_acc",
    "action_em": "action_em",
    "hallu_rate": "hallucination",
    "f1": "argument_f1",
    "easy_f1": "easy_f1",
    "hard_f1": "hard_f1",
    "rouge": "rouge_l",
}


class OfferedTool(BaseModel):
    """A tool document, of which only the name matters here."""

    Name: str


class Sample(BaseModel):
    """One step in the original's form: the offered tools, the annotated text and the predicted one."""

    tools: tuple[OfferedTool, ...]
    reference: str
    predictions: str

    def score(self, mode: Mode) -> StepScore:
        """Read both texts and score the step. Raises BadInput where `Mode` says so."""
        reference, prediction = read_output(self.reference, mode), read_output(self.predictions, mode)
        return score_step({tool.Name for tool in self.tools}, reference, prediction, mode)


class Vectors(BaseModel):
    """Predictions together with the figures that the original evaluator printed for them."""

    metrics: Figures
    samples: tuple[Sample, ...]

    def scores(self, mode: Mode = Mode.ORIGINAL) -> Scores:
        """Our figures for the same predictions. Raises BadInput, naming the sample, where `Mode` says so."""
        steps = list[StepScore]()
        for number, sample in enumerate(self.samples):
            try:
                steps.append(sample.score(mode))
            except BadInput as error:
                raise BadInput(f"sample {number}: {error}", error.field) from error
        return mean_scores(steps, mode)


def metrics(file: Path) -> None:
    """Compare our metrics with the original evaluator's, from a JSON file of `metrics` and `samples`.

    Exits with 1 when a figure differs by more than 1e-9, and with 2 when the file cannot be scored.
    """
    try:
        vectors = Vectors.model_validate_json(file.read_bytes())
        scores = vectors.scores()
    except (OSError, ValidationError, BadInput) as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{'':<11}{'ours':>14}{'original':>14}{'difference':>13}{'steps':>7}")
    same = True
    for name, field in FIELDS.items():
        rate, theirs = getattr(scores, field), getattr(vectors.metrics, name)
        difference = rate.value - theirs
        same = same and abs(difference) <= TOLERANCE  # in this order, so that NaN is a difference
        typer.echo(f"{name:<11}{rate.value:>14.10f}{theirs:>14.10f}{difference:>13.1e}{rate.count:>7}")
    if not same:
        raise typer.Exit(1)
