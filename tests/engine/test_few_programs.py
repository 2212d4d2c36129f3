"""Few programs are compiled: one for cascades of every length and any number of prices, and none twice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest

from cascade_bayes import Envelope, Posterior, error_cost_frontier
from cascade_bayes.engine import sweep


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Count the programs that are traced and compiled inside."""
    counts = {"traced": 0, "compiled": 0}
    names = {"jaxpr_trace": "traced", "backend_compile": "compiled"}
    active = [True]

    def count(event: str, _: float, **__: Any) -> None:
        for part, name in names.items():
            counts[name] += active[0] and part in event

    jax.monitoring.register_event_duration_secs_listener(count)
    yield counts
    active[0] = False


DRAWS = 24
"""As many draws as no other test asks for, so that its programs are compiled here."""


@pytest.fixture(scope="module")
def sizes(small_posterior: Posterior) -> tuple[Envelope, dict[str, int]]:
    """The best of four cascades at five prices, and how many programs of a kind it compiled."""
    before = {name: getattr(sweep, name).jitted._cache_size() for name in KEPT}
    swept = error_cost_frontier(small_posterior, error_prices=np.geomspace(2e-4, 2e-2, 5), num_draws=DRAWS)
    return swept, {name: getattr(sweep, name).jitted._cache_size() - before[name] for name in KEPT}


KEPT = "_descend", "_run_batch", "_own"


def test_one_program_serves_cascades_of_every_length(sizes: tuple[Envelope, dict[str, int]]) -> None:
    assert sizes[1] == dict.fromkeys(KEPT, 1)


@pytest.mark.parametrize(
    "question",
    [
        lambda swept: swept.at(error_price=6e-4),
        lambda swept: swept.at(error_price=1.1e-3),
        lambda swept: swept.at(error_price=7e-3),
        lambda swept: [swept.policy(i) for i in range(5)],
    ],
)
def test_a_question_about_a_frontier_compiles_nothing(
    sizes: tuple[Envelope, dict[str, int]], question: Callable[[Envelope], Any]
) -> None:
    with counted() as counts:
        question(sizes[0])
    assert counts == {"traced": 0, "compiled": 0}


def test_other_prices_of_the_same_fit_compile_nothing(
    small_posterior: Posterior, sizes: tuple[Envelope, dict[str, int]]
) -> None:
    for prices in ([1e-3], np.geomspace(1e-4, 1e-2, 19)):
        with counted() as counts:
            error_cost_frontier(small_posterior, error_prices=prices, num_draws=DRAWS)
        assert counts == {"traced": 0, "compiled": 0}


def test_programs_are_counted() -> None:
    with counted() as counts:
        jax.jit(lambda x: x * np.pi + 0.123)(1.0)
    assert counts["traced"] >= 1
    assert counts["compiled"] >= 1


@pytest.mark.slow
def test_prices_beyond_32_bits_are_prices(small_posterior: Posterior) -> None:
    """Where an error costs more than 32 bits can hold, the least errors are bought, whatever they cost."""
    swept = error_cost_frontier(small_posterior, error_prices=[1e6, 1e60, 1e300], num_draws=DRAWS)
    loss = swept.error.mean(axis=2)[swept.best(), np.arange(3)]
    np.testing.assert_allclose(loss, loss[0], rtol=1e-6)
    left = error_cost_frontier(small_posterior, error_prices=[1e-3], num_draws=DRAWS, abstain_price=1e300)
    answered = error_cost_frontier(small_posterior, error_prices=[1e-3], num_draws=DRAWS)
    assert left.policy(0).thresholds.tolist() == answered.policy(0).thresholds.tolist()
