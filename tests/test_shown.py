"""Objects print as a few lines, and in notebooks as a small table whose texts are escaped."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from posteriors import make_posterior

from cascade_bayes._shown import MAX_CELL, MAX_ROWS, Card
from cascade_bayes._units import AS_THEY_STAND
from cascade_bayes.decision.certificate import Certificate
from cascade_bayes.decision.compare import Comparison
from cascade_bayes.decision.envelope import Envelope
from cascade_bayes.decision.frontier import Frontier
from cascade_bayes.decision.information import ALL, Information
from cascade_bayes.engine.figures import Predicted
from cascade_bayes.evaluation.realised import Realised
from cascade_bayes.inference.checks.result import CheckResult, Finding
from cascade_bayes.policy.expected import Evaluation, Prediction
from cascade_bayes.policy.mixture import Mixture
from cascade_bayes.policy.policy import Cuts, Policy
from cascade_bayes.policy.terms import COSTS_ALONE
from cascade_bayes.verdict import FitVerdict

EVIL = "<script>alert(1)</script>"
REJECTED = FitVerdict(False, "The chains differ.")
RNG = np.random.default_rng(0)


def predicted(*lead: int, models: int = 2) -> Predicted:
    """Figures of 50 draws."""
    error, cost = (RNG.uniform(0.1, 0.2, (*lead, 50)) for _ in range(2))
    return Predicted(error, cost, np.ones((*lead, 50, models)), np.zeros((*lead, 50)), None, cost)


def policy(**changes: Any) -> Policy:
    entries = {
        "models": (EVIL, "large"),
        "thresholds": np.array([-0.5]),
        "draw_thresholds": np.array([[-0.6], [-0.4]]),
        "error_price": 0.01,
        "question": {"error_price": 0.01},
        "prediction": Prediction.of_draws(predicted()),
        "kind": "logprob",
        "call_cost": np.array([1e-4, 2e-4]),
        "fit_digest": "0" * 64,
        "fit_verdict": REJECTED,
    }
    return Policy(**entries | changes)


def frontier(num_prices: int) -> Frontier:
    """A frontier that has been swept, without the fit that it came from."""
    nothing: Any = None
    return Frontier(
        models=(EVIL, "large"),
        error_prices=np.geomspace(1e-3, 1.0, num_prices),
        context={
            "kind": "logprob",
            "call_cost": np.array([1e-4, 2e-4]),
            "fit_digest": "0" * 64,
            "terms": COSTS_ALONE,
            "fit_verdict": REJECTED,
            "units": AS_THEY_STAND,
        },
        cuts=Cuts(np.linspace(-2.0, -0.1, num_prices)[:, None]),
        draw_optima=nothing,
        predicted=predicted(num_prices),
        on_grid=nothing,
        chain=nothing,
        num_steps=0,
    )


def envelope(num_prices: int) -> Envelope:
    one = frontier(num_prices)
    return Envelope(
        models=one.models,
        error_prices=one.error_prices,
        context=one.context,
        candidates=((EVIL,), one.models),
        error=np.stack([one.error + 0.5, one.error]),
        expense=np.stack([one.expense, one.expense]),
        frontiers={one.models: one},
        alone={(EVIL,): predicted(models=1)},
        on_grid=one.on_grid,
    )


def realised() -> Realised:
    figures = dict.fromkeys(Realised._fields, 0.1)
    shares = {"reach_prob": (1.0, 0.5), "stop_prob": (0.5, 0.5)}
    return Realised(**figures | shares | {"num_queries": 40, "num_missing": 0})  # type: ignore[arg-type]


def information() -> Information:
    gain = RNG.uniform(0, 1e-5, (4, 2, 50))
    labels = (ALL, EVIL, "large", "no labels")
    return Information(
        0.01, (EVIL, "large"), np.array([50, 200]), labels, gain[0, 0] * 3, gain, np.full((4, 2, 1), 0.2)
    )


def certificate(num_prices: int) -> Certificate:
    loss = RNG.uniform(1e-3, 2e-3, (num_prices, 50))
    each = ((EVIL, "large"),) * num_prices
    spot = (np.array([0.1]),) * num_prices
    return Certificate(np.geomspace(1e-3, 1, num_prices), each, loss * 0.9, loss * 0.95, loss, spot)


SHOWN: dict[str, tuple[Any, str]] = {
    "posterior": (make_posterior(), "Posterior of 3 models from 12 queries: 8 draws by nuts"),
    "laplace": (make_posterior("laplace"), "8 draws by laplace"),
    "data": (make_posterior().data, "Table of 12 queries and 3 models, confidences: probability"),
    "policy": (policy(), "Policy for 0.01 US dollars per wrong answer"),
    "frontier": (frontier(41), "Frontier: one cascade at 41 prices of an error, 8 of them below"),
    "envelope": (envelope(41), "Envelope: the best of 2 cascades at 41 prices of an error"),
    "prediction": (predicted(), "Predicted figures of a policy, 50 draws"),
    "predictions": (predicted(3), "Predicted figures of 3 policies, 50 draws"),
    "certificate": (certificate(41), "Certificate of 41 policies"),
    "comparison": (Comparison(0.01, *RNG.normal(size=(3, 50))), "Comparison of two policies"),
    "information": (information(), "Worth of more queries, US dollars per 1000 queries served"),
    "mixture": (Mixture((policy(), policy()), 0.25, 0.1, 0.01, "error", 0.002), "Mixture of two policies"),
    "evaluation": (Evaluation(policy().prediction, realised(), 0.01), "Evaluation on 40 queries"),
    "checks": (CheckResult((Finding("margins", EVIL, False, "off"),), 0.01), "Checks of a fit"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_objects_print_as_a_few_lines_and_a_small_table(name: str) -> None:
    thing, title = SHOWN[name]
    text, html = repr(thing), thing._repr_html_()
    assert text.startswith(title.split(" by ")[0]) or title in text.splitlines()[0]
    assert len(text.splitlines()) <= 15
    assert len(text) < 4000
    assert len(html) < 8000
    assert "<table>" in html
    assert "0x" not in text
    assert "array(" not in text
    assert "<script" not in html
    cells = [len(cell) for cell in re.findall(r"<td>(.*?)</td>", html)]
    assert cells


def test_names_from_files_are_escaped_and_stay_on_their_line() -> None:
    card = Card("t", ("model",), [(EVIL,), ("two\nlines\x1b[31m",), ("long" * 40,)])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in card.html()
    assert len(card.text().splitlines()) == 5
    assert "\x1b" not in card.text() + card.html()
    assert max(map(len, card.text().splitlines())) == MAX_CELL + 2


def test_what_is_not_shown_of_a_long_table_is_counted() -> None:
    card = Card("t", ("n",), [(str(i),) for i in range(MAX_ROWS + 3)])
    assert card.text().endswith("... and 3 more")
    assert "... and 3 more" in card.html()


def test_a_policy_says_what_its_numbers_are() -> None:
    text = repr(policy())
    assert "defers below (logprob)" in text
    assert "[-0.6, -0.4]" in text
    assert re.search(r"error 1[0-9.]+ \([0-9.]+ to [0-9.]+\) %, cost [0-9.]+ ", text)
    assert "Fit rejected: The chains differ." in text
    limited = repr(policy(question={"target_error": 0.2, "probability": 0.9}))
    assert limited.startswith("Policy for an error of at most 20 %, kept with probability 0.9")
