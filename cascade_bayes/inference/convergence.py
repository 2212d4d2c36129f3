"""Whether chains agree and are long enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

MAX_R_HAT = 1.01
MIN_ESS_BULK = 400.0


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
