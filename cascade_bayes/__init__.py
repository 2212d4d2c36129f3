"""Bayesian tuning of cascades of language models: deferral thresholds with their uncertainty.

>>> import cascade_bayes as cb
>>> cb.__all__[:4]
['read_table', 'CascadeData', 'check_fittable', 'collect']

Names are imported when first used, so that importing the package is quick and asks for no more than the
part of it that is needed. All that users call computes in 64-bit arithmetic, whatever JAX is set to.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade_bayes import example as example
    from cascade_bayes import plot as plot
    from cascade_bayes.collecting import Collected as Collected
    from cascade_bayes.collecting import collect, read_inspect
    from cascade_bayes.collecting import read_lm_eval as read_lm_eval
    from cascade_bayes.collecting import read_openai as read_openai
    from cascade_bayes.data import CascadeData, check_fittable
    from cascade_bayes.decision.certificate import Certificate as Certificate
    from cascade_bayes.decision.certificate import certify
    from cascade_bayes.decision.compare import Comparison as Comparison
    from cascade_bayes.decision.compare import compare
    from cascade_bayes.decision.envelope import Envelope
    from cascade_bayes.decision.frontier import Frontier
    from cascade_bayes.decision.information import Information as Information
    from cascade_bayes.decision.information import value_of_information
    from cascade_bayes.decision.predict import predict
    from cascade_bayes.decision.tuning import error_cost_frontier
    from cascade_bayes.engine.figures import Predicted as Predicted
    from cascade_bayes.errors import ConvergenceWarning, DataWarning, InfeasibleError, InputError, OutputError
    from cascade_bayes.inference.batch import FailedFit as FailedFit
    from cascade_bayes.inference.batch import fit_batch
    from cascade_bayes.inference.checks import CheckResult as CheckResult
    from cascade_bayes.inference.checks import check
    from cascade_bayes.inference.fit import fit
    from cascade_bayes.inference.options import FitOptions
    from cascade_bayes.inference.posterior import Posterior
    from cascade_bayes.inference.prior import PriorDraws as PriorDraws
    from cascade_bayes.inference.prior import sample_prior
    from cascade_bayes.model.priors import Priors
    from cascade_bayes.model.simulate import Cascade, simulate
    from cascade_bayes.plots import plot_calibration as plot_calibration
    from cascade_bayes.plots import plot_chains as plot_chains
    from cascade_bayes.plots import plot_checks as plot_checks
    from cascade_bayes.plots import plot_frontier as plot_frontier
    from cascade_bayes.plots import plot_margins as plot_margins
    from cascade_bayes.plots import plot_prior as plot_prior
    from cascade_bayes.plots import plot_ranks as plot_ranks
    from cascade_bayes.plots import plot_replicates as plot_replicates
    from cascade_bayes.plots import plot_thresholds as plot_thresholds
    from cascade_bayes.policy.expected import Evaluation as Evaluation
    from cascade_bayes.policy.guarantee import Guarantee as Guarantee
    from cascade_bayes.policy.mixture import Mixture as Mixture
    from cascade_bayes.policy.points import load_policies
    from cascade_bayes.policy.policy import ABSTAIN, Policy
    from cascade_bayes.policy.terms import Terms as Terms
    from cascade_bayes.reading import read_table
    from cascade_bayes.reporting import report
    from cascade_bayes.sbc.calibration import simulation_based_calibration
    from cascade_bayes.sbc.ranks import CalibrationRanks as CalibrationRanks
    from cascade_bayes.serving.openai import ask_openai as ask_openai
    from cascade_bayes.serving.routed import Reply as Reply
    from cascade_bayes.serving.routed import Routed as Routed
    from cascade_bayes.serving.router import Router
    from cascade_bayes.transforms import ConfidenceMap as ConfidenceMap
    from cascade_bayes.watching.watch import Watched as Watched
    from cascade_bayes.watching.watch import watch

_MODULES = ("example", "plot")
"""Modules that are imported when they are first used."""

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
    "Guarantee": "policy.guarantee",
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
    "Reply": "serving.routed",
    "Routed": "serving.routed",
    "Router": "serving.router",
    "Terms": "policy.terms",
    "Watched": "watching.watch",
    "ask_openai": "serving.openai",
    "certify": "decision.certificate",
    "check": "inference.checks",
    "check_fittable": "data",
    "Collected": "collecting",
    "collect": "collecting",
    "read_inspect": "collecting",
    "read_lm_eval": "collecting",
    "read_openai": "collecting",
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
    "watch": "watching.watch",
}
"""Where each name lives; those that are not in ``__all__`` are what functions return, and older names."""

__all__ = [  # noqa: RUF022  by task, as the reference has them
    # read a table
    "read_table",
    "CascadeData",
    "check_fittable",
    # collect a table
    "collect",
    "read_inspect",
    # fit
    "fit",
    "fit_batch",
    "FitOptions",
    "Priors",
    "Posterior",
    # judge a fit
    "check",
    "simulation_based_calibration",
    # decide
    "error_cost_frontier",
    "Frontier",
    "Envelope",
    "Policy",
    "load_policies",
    "ABSTAIN",
    "predict",
    "compare",
    "certify",
    "value_of_information",
    "report",
    # run in production
    "Router",
    "watch",
    # simulate
    "sample_prior",
    "simulate",
    "Cascade",
    # draw pictures, and the bundled example
    "plot",
    "example",
    # what goes wrong
    "ConvergenceWarning",
    "DataWarning",
    "InfeasibleError",
    "InputError",
    "OutputError",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("cascade-bayes")
        except PackageNotFoundError:  # a source tree that is not installed
            return "0+unknown"
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *__all__, "__version__"})
