"""Whether a fit can be trusted: chains that agree and are long enough, an approximation that is close."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

MAX_R_HAT = 1.01
MIN_ESS_BULK = 400.0
MAX_K_HAT = 0.7
USABLE_ESS = 40.0
"""With fewer effective draws the ends of a 90 % interval are single draws: `fit` warns."""
MIN_E_BFMI = 0.3
MAX_SATURATED = 0.01
"""Share of transitions that may take the longest trajectory the sampler allows: they cost time, and are no
error of themselves."""


class Convergence(NamedTuple):
    """Verdict on a fit.

    Attributes
    ----------
    converged
        R-hat at most 1.01 and bulk ESS at least 400 for every parameter (Vehtari et al. 2021), no
        divergent transition.
    mixed
        The first two of these conditions: the chains agree and are long enough.
    max_r_hat, min_ess_bulk, min_ess_tail
        The worst over all parameters.
    worst_parameter
        The name of the parameter with the largest R-hat.
    num_divergences
        Divergent transitions after warm-up.
    """

    converged: bool
    mixed: bool
    max_r_hat: float
    min_ess_bulk: float
    min_ess_tail: float
    worst_parameter: str
    num_divergences: int

    def sentence(self) -> str:
        """Return the verdict in words."""
        figures = (
            f"largest R-hat {self.max_r_hat:.4f} ({self.worst_parameter}), smallest bulk ESS "
            f"{self.min_ess_bulk:.0f}, {self.num_divergences} divergences"
        )
        if self.converged:
            return f"The chains agree: {figures}."
        return (
            f"The fit did not converge: {figures}; wanted R-hat <= {MAX_R_HAT}, bulk ESS >= "
            f"{MIN_ESS_BULK:.0f} and no divergence. Raise num_samples, num_warmup or the target acceptance "
            "rate."
        )


class Closeness(NamedTuple):
    """Verdict on an approximation that importance sampling has corrected.

    Attributes
    ----------
    converged
        Whether every module has k-hat at most 0.7 (Vehtari et al. 2024), at least 400 effective draws, and a
        guide whose bound no longer rises.
    max_k_hat, min_ess
        The worst over all modules; effective draws by the importance weights.
    worst_module
        The one with the largest k-hat.
    still_rising
        Modules whose guide had not settled after the last step.
    """

    converged: bool
    max_k_hat: float
    min_ess: float
    worst_module: str
    still_rising: tuple[str, ...]

    def sentence(self) -> str:
        """Return the verdict in words."""
        figures = (
            f"largest k-hat {self.max_k_hat:.2f} ({self.worst_module}), {self.min_ess:.0f} effective draws"
        )
        if self.converged:
            return f"The approximation is close: {figures}."
        rising = (
            f"; the bound was still rising for {', '.join(self.still_rising)}" if self.still_rising else ""
        )
        return (
            f"The approximation is not to be trusted: {figures}; wanted k-hat <= {MAX_K_HAT} and at least "
            f"{MIN_ESS_BULK:.0f} effective draws{rising}. "
            "Use method 'nuts', or 'svi' with another guide or more steps."
        )


class Point(NamedTuple):
    """Verdict on a single point: there is no uncertainty to judge.

    Attributes
    ----------
    converged
        Always true.
    """

    converged: bool = True

    def sentence(self) -> str:
        """Return the verdict in words."""
        return (
            "A single point, the posterior mode, which says nothing of uncertainty: its intervals are points."
        )


Verdict = Convergence | Closeness | Point


def judge_approximation(
    k_hat: Mapping[str, float], ess: Mapping[str, float], settled: Mapping[str, bool]
) -> Closeness:
    """Return the verdict on an approximation.

    Parameters
    ----------
    k_hat
        The k-hat of each module; NaN counts as the worst.
    ess
        Effective draws by module; NaN counts as none.
    settled
        Whether the guide's bound had stopped rising, by module; empty where there was no guide.
    """
    worst = max(k_hat, key=lambda name: np.inf if np.isnan(k_hat[name]) else k_hat[name])
    rising = tuple(name for name, done in settled.items() if not done)
    min_ess = float(np.min(list(ess.values())))
    close = k_hat[worst] <= MAX_K_HAT and min_ess >= MIN_ESS_BULK and not rising
    return Closeness(close, k_hat[worst], min_ess, worst, rising)


def assess(
    samples: Mapping[str, np.ndarray],
    sample_stats: Mapping[str, np.ndarray],
    labels: Mapping[str, list[str]] | None = None,
) -> Convergence:
    """Return R-hat, effective sample sizes and divergences, worst over all parameters.

    Parameters
    ----------
    samples
        Site name -> ``(num_chains, num_samples, ...)``.
    sample_stats
        Sampler statistics, ``(num_chains, num_samples)``.
    labels
        A name for every element of each site, in C order; by default the site's name and a number.
    """
    from cascade_bayes.inference import _arviz

    statistics = _arviz.rhat_and_ess(samples)
    r_hat, ess_bulk, ess_tail = (
        np.concatenate([np.ravel(statistics[figure][k]) for k in samples])
        for figure in ("r_hat", "ess_bulk", "ess_tail")
    )
    if labels is None:
        labels = {k: [f"{k}[{i}]" for i in range(int(np.prod(v.shape[2:])))] for k, v in samples.items()}
    names = [name for k in samples for name in labels[k]]
    divergences = int(np.sum(sample_stats.get("diverging", 0)))
    worst = int(np.argmax(np.where(np.isnan(r_hat), np.inf, r_hat)))
    mixed = bool(np.all(r_hat <= MAX_R_HAT) and np.all(ess_bulk >= MIN_ESS_BULK))
    return Convergence(
        converged=mixed and divergences == 0,
        mixed=mixed,
        max_r_hat=float(r_hat[worst]),
        min_ess_bulk=float(ess_bulk.min()),
        min_ess_tail=float(ess_tail.min()),
        worst_parameter=names[worst],
        num_divergences=divergences,
    )
