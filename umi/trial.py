"""When a canary has proved itself: a sequential test of its failures against the stable version's.

Wald's sequential probability ratio test (Annals of Mathematical Statistics 16, 1945) may be looked at after every
request without losing its error rates. It weighs "the canary fails as rarely as stable" against "it fails more often by
`Rules.worse`"; turns that failed are counted, not answers that displeased somebody.
"""

from enum import StrEnum
from math import log, sqrt
from typing import Annotated

from pydantic import Field

from umi.trajectory import Frozen

Share = Annotated[float, Field(gt=0, lt=1)]


class Tally(Frozen):
    """What one version has done: turns taken, those that failed (unusable text, twice), their seconds and the squares.

    `unusable` are the texts that broke the role's grammar, those that a second try made good as well. `runs` are those
    that a turn of it ended, and `steps` the steps that they had then; a caller's turn never ends a run.
    """

    turns: int = 0
    failed: int = 0
    seconds: float = 0.0
    squared_seconds: float = 0.0
    unusable: int = 0
    runs: int = 0
    steps: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Both together: the same version on two replicas."""
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in Tally.model_fields})

    @property
    def mean_seconds(self) -> float:
        """Of a turn; 0 before the first."""
        return self.seconds / self.turns if self.turns else 0.0

    @property
    def mean_seconds_variance(self) -> float:
        """Of `mean_seconds` as an estimate, in seconds squared: the turns' own variance over their number."""
        if self.turns < 2:
            return 0.0
        return max(0.0, self.squared_seconds - self.turns * self.mean_seconds**2) / (self.turns - 1) / self.turns

    @property
    def mean_steps(self) -> float:
        """Of a run; 0 before the first."""
        return self.steps / self.runs if self.runs else 0.0


class Rules(Frozen):
    """When to decide."""

    least_turns: Annotated[int, Field(ge=1)] = 200
    """Turns that both versions have to take before the canary is promoted. Rolling back may come sooner."""
    worse: Share = 0.03
    """How much more often a canary must fail to be called worse."""
    usual: Share = 0.005
    """The failure rate that stable is credited with at least: nobody can prove none."""
    wrong_promotion: Share = 0.05
    """Chance of promoting a canary that is worse."""
    wrong_rollback: Share = 0.05
    """Chance of rolling back one that is as good."""
    slower: Annotated[float, Field(gt=1)] = 1.5
    """How many times slower a promoted canary may be; more counts once it is beyond `_STANDARD_ERRORS` of chance."""
    longer: Annotated[float, Field(gt=1)] = 1.5
    """How many times more steps its runs may have."""


_STANDARD_ERRORS = 3.0  # three, not two: it is looked at after every turn. One turn that hung for a minute stays below.


class Verdict(StrEnum):
    """What the counts say."""

    GO_ON = "go on"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


def judge(stable: Tally, canary: Tally, rules: Rules) -> tuple[Verdict, str]:
    """The verdict, and its reason in a sentence for the history."""
    rate = max(rules.usual, stable.failed / stable.turns if stable.turns else 0.0)
    good, bad = min(rate, 1 - rules.worse - 1e-9), min(rate + rules.worse, 1 - 1e-9)
    weight = canary.failed * log(bad / good) + (canary.turns - canary.failed) * log((1 - bad) / (1 - good))
    counts = f"{canary.failed} of {canary.turns} turns failed, stable {stable.failed} of {stable.turns}"
    if weight >= log((1 - rules.wrong_promotion) / rules.wrong_rollback):
        return Verdict.ROLL_BACK, f"fails more often: {counts}"
    if min(canary.turns, stable.turns) < rules.least_turns:
        return Verdict.GO_ON, f"too few turns yet: {counts}"
    if _slower(canary, stable, rules.slower):
        times = canary.mean_seconds / stable.mean_seconds if stable.mean_seconds else float("inf")
        return Verdict.ROLL_BACK, f"{times:.1f} times slower than stable over {canary.turns} turns"
    if canary.mean_steps > rules.longer * stable.mean_steps > 0:
        steps = f"{canary.mean_steps:.1f} steps, stable {stable.mean_steps:.1f}"
        return Verdict.ROLL_BACK, f"a run takes {steps}, over {canary.runs} runs"
    if weight <= log(rules.wrong_promotion / (1 - rules.wrong_rollback)):
        return Verdict.PROMOTE, f"as good as stable: {counts}"
    return Verdict.GO_ON, f"not clear yet: {counts}"


def _slower(canary: Tally, stable: Tally, times: float) -> bool:
    """Whether the canary takes more than `times` stable's seconds beyond chance (Welch, Biometrika 34, 1947)."""
    chance = sqrt(canary.mean_seconds_variance + times**2 * stable.mean_seconds_variance)
    return canary.mean_seconds - times * stable.mean_seconds > _STANDARD_ERRORS * chance
