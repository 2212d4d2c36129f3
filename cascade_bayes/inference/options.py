"""How a table is fitted: every option of a fit, with its default, its meaning and its check, in one place.

`cascade_bayes.fit`, `cascade_bayes.fit_batch`, `cascade_bayes.simulation_based_calibration` and the command
line all build a `FitOptions` from what they are given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from cascade_bayes._names import suggest
from cascade_bayes._numbers import MAX_CHAINS, MAX_COUNT, check_seed, check_whole
from cascade_bayes.errors import InputError
from cascade_bayes.model.names import DEFAULT_MARGIN, STRUCTURES, Structure

if TYPE_CHECKING:
    from cascade_bayes.model.priors import Priors

F = TypeVar("F", bound=Callable[..., Any])

METHODS = ("nuts", "auto", "svi", "laplace", "map")

Guide = Literal["mean_field", "low_rank", "full_rank", "flow"]
GUIDES: tuple[Guide, ...] = get_args(Guide)

WARMUP, AUTO_WARMUP = 150, 100
"""Transitions of a chain's warm-up, and those of ``auto``: the metric is known, the step size is not."""

SAMPLES = 500
"""Kept draws of each chain, of a round: those of four chains are as many as a modular fit keeps
(`cascade_bayes.inference.pair_posteriors.MAX_DRAWS`), and chains that need more go on for another round."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How a table is fitted; all that `cascade_bayes.fit` takes but for the table.

    Attributes
    ----------
    method
        ``"nuts"``, the default, and the one to publish from. ``"auto"``: NUTS with a short warm-up. ``"svi"``
        and ``"laplace"``: approximations, corrected by Pareto-smoothed importance sampling, which takes
        seconds; ``Posterior.convergence()`` says how close they were. ``"map"``: the posterior mode alone, a
        single draw, of unconstrained parameters. `cascade_bayes.inference.samplers.draw` says more.
    seed
        Seed of all randomness; the same seed, versions and devices, as many of them, give the same draws.
    num_chains, num_warmup, num_samples
        Chains, and the warm-up and kept draws of each; all chains run as one batch. If None, warm-up is 150,
        100 for ``"auto"``, and 500 draws are kept. The approximate methods return as many draws.
    max_rounds
        If R-hat or the effective sample size of a parameter falls short after ``num_samples`` draws, the
        chains go on for as many again, until they suffice or this many rounds are done. All draws are
        kept, unless a transition diverged: then the chains go on with half the step size, and what was drawn
        before counts as warm-up. With 1 nothing is checked, and NUTS does without ArviZ.
    guide
        For ``"svi"``: ``"mean_field"``, ``"low_rank"``, ``"full_rank"`` or ``"flow"``.
    num_steps
        For ``"svi"``: steps of the optimiser.
    structure
        ``"modular"`` samples first margins and calibration, then each pair of models given them, with nothing
        fed back; ``"chain"`` all parameters together, given the Markov chain of all models.
        `cascade_bayes.model.spec.ModelSpec` says what each conditions on. If None, modular, which predicts
        better and takes less time. Confidences may be missing: each model, and each pair, is then fitted to
        the queries that have it, as if which are missing did not depend on the confidences. Where the table
        shows that it does, as in the log of a running cascade, the default is a chain, because only a chain
        allows for that; `cascade_bayes.inference.structure` has the rule.
    copula
        Family of the pairs (neighbours of a chain; every pair of a modular fit, (0, 1), (0, 2), ...): one
        name for all of them, or one a pair, from `cascade_bayes.copulas.FAMILIES`; ``"auto"`` picks for each
        pair the family with the highest leave-one-out log score (`cascade_bayes.inference.copula_choice`).
    margin
        Family of the continuous parts of the confidences' margins: ``"logit_normal"`` or ``"beta"``
        (`cascade_bayes.model.margins`).
    upstream
        Let the previous model's confidence enter a model's log odds of being right.
    monotone
        Keep slopes positive: more confident answers of a model are right at least as often.
    priors
        Hyperparameters; if None the defaults of `cascade_bayes.Priors`, of a long table of
        ``Priors.long_table``.
    atoms
        Point masses by model name, on the raw scale, in place of those that
        `cascade_bayes.model.params.find_atoms` would find.
    target_accept_prob
        Acceptance rate NUTS adapts its step size to. Closer to 1 is slower, with fewer divergences.
    max_queries
        Fit a random subset of so many queries, chosen by ``seed``, if the table has more; all if None.
    progress
        Show a progress bar.

    Raises
    ------
    InputError
        If a name is not known, or a number out of range.
    TypeError
        If a count is not a whole number.
    """

    method: str = "nuts"
    seed: int
    num_chains: int = 4
    num_warmup: int | None = None
    num_samples: int | None = None
    max_rounds: int = 6
    guide: Guide = "full_rank"
    num_steps: int = 1000
    structure: Structure | None = None
    copula: str | Sequence[str] = "gumbel"
    margin: str = DEFAULT_MARGIN
    upstream: bool = True
    monotone: bool = False
    priors: Priors | None = None
    atoms: Mapping[str, Sequence[float]] | None = None
    target_accept_prob: float = 0.9
    max_queries: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        from cascade_bayes.copulas import get_copula
        from cascade_bayes.model.margins import get_margin

        object.__setattr__(self, "seed", check_seed(self.seed))
        _check_one_of("method", self.method, METHODS)
        _check_one_of("guide", self.guide, GUIDES)
        if self.structure is not None:
            _check_one_of("structure", self.structure, STRUCTURES)
        get_margin(self.margin)
        for name in [self.copula] if isinstance(self.copula, str) else self.copula:
            if name != "auto":
                get_copula(name)
        for name in ("num_chains", "num_warmup", "num_samples", "max_rounds", "num_steps", "max_queries"):
            value = getattr(self, name)
            if value is not None:
                check_whole(name, value, high=MAX_CHAINS if name == "num_chains" else MAX_COUNT)
        if not 0 < self.target_accept_prob < 1:
            raise InputError(
                f"target_accept_prob must lie between 0 and 1; got {self.target_accept_prob!r}. Most fits do "
                "with 0.9."
            )

    @classmethod
    def of(cls, method: str, seed: int, options: Mapping[str, Any]) -> FitOptions:
        """Return the options that a call gives by name.

        Raises
        ------
        TypeError
            If there is no such option.
        """
        known = [field.name for field in fields(cls) if field.name not in ("method", "seed")]
        for name in options:
            if name not in known:
                raise TypeError(f"a fit has no option {name!r}. {suggest(name, known)}")
        return cls(method=method, seed=seed, **options)

    @property
    def warmup(self) -> int:
        """Transitions of each chain's warm-up."""
        return self.num_warmup or (AUTO_WARMUP if self.method == "auto" else WARMUP)

    @property
    def draws(self) -> int:
        """Draws of each chain that are kept, of a round."""
        return self.num_samples or SAMPLES

    def settings(self) -> dict[str, Any]:
        """Return what of the options the method reads."""
        if self.method in ("nuts", "auto"):
            return {"num_warmup": self.warmup, "target_accept_prob": self.target_accept_prob}
        return {"guide": self.guide, "num_steps": self.num_steps} if self.method == "svi" else {}


def _check_one_of(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}; got {value!r}.")


def with_fit_options(function: F) -> F:
    """Return a function of ``**options`` whose signature names every option of a fit, with its default.

    Notebooks then complete the names, and ``help`` shows them.
    """
    own = inspect.signature(function)
    *first, rest = own.parameters.values()
    assert rest.kind is inspect.Parameter.VAR_KEYWORD
    taken = {parameter.name for parameter in first}
    more = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in fields(FitOptions)
        if field.name not in taken
    ]
    function.__signature__ = own.replace(parameters=[*first, *more])  # type: ignore[attr-defined]
    return function
