"""Whether the draws are those of the posterior: diagnostics of the sampler, against bounds of their sources.

* R-hat at most 1.01, bulk and tail effective sample sizes at least 400 (Vehtari et al., Bayesian Analysis 16,
  2021);
* no divergent transition, E-BFMI at least 0.3 in every chain (Betancourt, arXiv 1604.00695), at most 1 % of
  the transitions as long as the sampler allows;
* of an approximation: k-hat at most 0.7 (Vehtari et al., JMLR 25, 2024), at least 400 effective draws, a
  guide that had settled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cascade_bayes.inference.checks.result import Finding, not_asked
from cascade_bayes.inference.convergence import (
    MAX_K_HAT,
    MAX_R_HAT,
    MAX_SATURATED,
    MIN_E_BFMI,
    MIN_ESS_BULK,
    Closeness,
    Convergence,
)
from cascade_bayes.inference.posterior import Posterior

MIN_ESS_TAIL = 400.0


def check_sampling(posterior: Posterior) -> Iterator[Finding]:
    """Hold every diagnostic of the sampler against its bound."""
    verdict = posterior.convergence()
    if isinstance(verdict, Convergence):
        yield _bound("R-hat", verdict.max_r_hat, "<=", MAX_R_HAT, f", worst {verdict.worst_parameter}")
        yield _bound("bulk ESS", verdict.min_ess_bulk, ">=", MIN_ESS_BULK)
        yield _bound("tail ESS", verdict.min_ess_tail, ">=", MIN_ESS_TAIL)
        yield _bound("divergent transitions", verdict.num_divergences, "<=", 0)
        report: dict[str, dict[str, Any]] = posterior.provenance["sampler"]
        name, value = min(report["e_bfmi"].items(), key=lambda item: item[1])
        yield _bound("E-BFMI", value, ">=", MIN_E_BFMI, f", of {name}")
        name, value = max(report["saturated"].items(), key=lambda item: item[1])
        yield _bound("share of longest trees", value, "<=", MAX_SATURATED, f", of {name}")
    elif isinstance(verdict, Closeness):
        yield _bound("k-hat", verdict.max_k_hat, "<=", MAX_K_HAT, f", of {verdict.worst_module}")
        yield _bound("effective draws", verdict.min_ess, ">=", MIN_ESS_BULK)
        yield _bound("guides still rising", len(verdict.still_rising), "<=", 0)
    else:
        yield not_asked("sampling", "draws", "a single point, the posterior mode")


def _bound(subject: str, value: float, sign: str, bound: float, where: str = "") -> Finding:
    passed = value <= bound if sign == "<=" else value >= bound  # NaN passes neither
    return Finding(
        "sampling",
        subject,
        bool(passed),
        f"{value:.4g}, wanted {sign} {bound:g}{where}",
        {"value": float(value), "bound": bound},
    )
