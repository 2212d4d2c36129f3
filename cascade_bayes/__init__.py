"""Bayesian tuning of cascades of language models: deferral thresholds with their uncertainty.

>>> import cascade_bayes as cb
>>> sorted(cb.__all__)[:4]
['ABSTAIN', 'CalibrationRanks', 'Cascade', 'CascadeData']

Names are imported when first used, so that importing the package is quick and asks for no more than the
part of it that is needed. All that users call computes in 64-bit arithmetic, whatever JAX is set to.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_bayes import example as example
    from cascade_bayes.data import CascadeData, check_fittable
    from cascade_bayes.decision.certificate import Certificate, certify
    from cascade_bayes.decision.compare import Comparison, compare
    from cascade_bayes.decision.envelope import Envelope
    from cascade_bayes.decision.frontier import Frontier
    from cascade_bayes.decision.information import Information, value_of_information
    from cascade_bayes.decision.predict import predict
    from cascade_bayes.decision.tuning import error_cost_frontier
    from cascade_bayes.engine.figures import Predicted
    from cascade_bayes.errors import ConvergenceWarning, DataWarning, InfeasibleError, InputError, OutputError
    from cascade_bayes.inference.batch import FailedFit, fit_batch
    from cascade_bayes.inference.checks import CheckResult, check
    from cascade_bayes.inference.fit import fit
    from cascade_bayes.inference.options import FitOptions
    from cascade_bayes.inference.posterior import Posterior
    from cascade_bayes.inference.prior import PriorDraws, sample_prior
    from cascade_bayes.model.priors import Priors
    from cascade_bayes.model.simulate import Cascade, simulate
    from cascade_bayes.plots import (
        plot_calibration,
        plot_chains,
        plot_checks,
        plot_frontier,
        plot_margins,
        plot_prior,
        plot_ranks,
        plot_replicates,
        plot_thresholds,
    )
    from cascade_bayes.policy.expected import Evaluation
    from cascade_bayes.policy.mixture import Mixture
    from cascade_bayes.policy.points import load_policies
    from cascade_bayes.policy.policy import ABSTAIN, Policy
    from cascade_bayes.policy.terms import Terms
    from cascade_bayes.reading import read_table
    from cascade_bayes.reporting import report
    from cascade_bayes.sbc.calibration import simulation_based_calibration
    from cascade_bayes.sbc.ranks import CalibrationRanks
    from cascade_bayes.transforms import ConfidenceMap

_HOME = {
    "ABSTAIN": "policy.policy",
    "CalibrationRanks": "sbc.ranks",
    "Cascade": "model.simulate",
    "CascadeData": "data",
    "CheckResult": "inference.checks",
    "Certificate": "decision.certificate",
    "Comparison": "decision.compare",
    "ConfidenceMap": "transforms",
    "ConvergenceWarning": "errors",
    "DataWarning": "errors",
    "Evaluation": "policy.expected",
    "FailedFit": "inference.batch",
    "Envelope": "decision.envelope",
    "FitOptions": "inference.options",
    "Frontier": "decision.frontier",
    "InfeasibleError": "errors",
    "Information": "decision.information",
    "InputError": "errors",
    "Policy": "policy.policy",
    "OutputError": "errors",
    "Mixture": "policy.mixture",
    "Posterior": "inference.posterior",
    "Predicted": "engine.figures",
    "PriorDraws": "inference.prior",
    "Priors": "model.priors",
    "Terms": "policy.terms",
    "certify": "decision.certificate",
    "check": "inference.checks",
    "check_fittable": "data",
    "compare": "decision.compare",
    "error_cost_frontier": "decision.tuning",
    "fit": "inference.fit",
    "fit_batch": "inference.batch",
    "load_policies": "policy.points",
    "plot_calibration": "plots",
    "plot_chains": "plots",
    "plot_checks": "plots",
    "plot_frontier": "plots",
    "plot_margins": "plots",
    "plot_prior": "plots",
    "plot_ranks": "plots",
    "plot_replicates": "plots",
    "plot_thresholds": "plots",
    "predict": "decision.predict",
    "read_table": "reading",
    "report": "reporting",
    "sample_prior": "inference.prior",
    "simulate": "model.simulate",
    "simulation_based_calibration": "sbc.calibration",
    "value_of_information": "decision.information",
}

__all__ = [
    "ABSTAIN",
    "CalibrationRanks",
    "Cascade",
    "CascadeData",
    "Certificate",
    "CheckResult",
    "Comparison",
    "ConfidenceMap",
    "ConvergenceWarning",
    "DataWarning",
    "Envelope",
    "Evaluation",
    "FailedFit",
    "FitOptions",
    "Frontier",
    "InfeasibleError",
    "Information",
    "InputError",
    "Mixture",
    "OutputError",
    "Policy",
    "Posterior",
    "Predicted",
    "PriorDraws",
    "Priors",
    "Terms",
    "certify",
    "check",
    "check_fittable",
    "compare",
    "error_cost_frontier",
    "fit",
    "fit_batch",
    "load_policies",
    "plot_calibration",
    "plot_chains",
    "plot_checks",
    "plot_frontier",
    "plot_margins",
    "plot_prior",
    "plot_ranks",
    "plot_replicates",
    "plot_thresholds",
    "predict",
    "read_table",
    "report",
    "sample_prior",
    "simulate",
    "simulation_based_calibration",
    "value_of_information",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("cascade-bayes")
        except PackageNotFoundError:  # a source tree that is not installed
            return "0+unknown"
    if name == "example":
        return import_module(f"{__name__}.example")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__", "example"})
