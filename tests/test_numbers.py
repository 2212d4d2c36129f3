"""Whole numbers out of bounds are told so in a sentence, wherever a user passes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cascade_bayes._names import names_of
from cascade_bayes._numbers import MAX_COUNT, MAX_SEED, check_seed, check_whole
from cascade_bayes.errors import InputError
from cascade_bayes.example import load_truth
from cascade_bayes.inference.batch import fit_batch
from cascade_bayes.inference.checks import check
from cascade_bayes.inference.fit import fit
from cascade_bayes.inference.posterior import Posterior
from cascade_bayes.inference.prior import sample_prior
from cascade_bayes.model.simulate import simulate

HUGE = 10**20


@pytest.mark.parametrize("value", [1, MAX_COUNT, np.int32(5), np.uint64(7), True])
def test_what_is_taken(value: Any) -> None:
    number = check_whole("count", value)
    assert type(number) is int
    assert number == value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "count must be at least 1; got 0."),
        (-HUGE, "count must be at least 1; got -100000000000000000000."),
        (MAX_COUNT + 1, "count must be at most 1000000; got 1000001."),
        (10**5000, "count must be at most 1000000; got a number of over 24 digits."),
    ],
    ids=["zero", "negative", "one too many", "unprintable"],
)
def test_what_is_refused(value: int, told: str) -> None:
    with pytest.raises(InputError) as refused:
        check_whole("count", value)
    assert str(refused.value) == told


@pytest.mark.parametrize("value", [3.0, "3", None, np.nan])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(TypeError, match="count must be a whole number; got"):
        check_whole("count", value)


def test_seeds() -> None:
    assert [check_seed(value) for value in (0, MAX_SEED)] == [0, MAX_SEED]
    for value in (-1, MAX_SEED + 1):
        with pytest.raises(InputError, match=f"seed must be .*; got {value}"):
            check_seed(value)


CALLS: dict[str, Callable[[Posterior], object]] = {
    "fit, seed": lambda p: fit(p.data, seed=HUGE),
    "fit, num_chains": lambda p: fit(p.data, seed=0, num_chains=HUGE),
    "fit, num_warmup": lambda p: fit(p.data, seed=0, num_warmup=HUGE),
    "fit, num_samples": lambda p: fit(p.data, seed=0, num_samples=HUGE),
    "fit, max_rounds": lambda p: fit(p.data, seed=0, max_rounds=HUGE),
    "fit, num_steps": lambda p: fit(p.data, "svi", seed=0, num_steps=HUGE),
    "fit_batch, batch_size": lambda p: fit_batch([p.data], seed=0, batch_size=HUGE),
    "check, num_draws": lambda p: check(p, num_draws=HUGE),
    "check, seed": lambda p: check(p, seed=HUGE),
    "to_arviz, num_replicates": lambda p: p.to_arviz(num_replicates=HUGE),
    "to_arviz, seed": lambda p: p.to_arviz(seed=HUGE),
    "sample_prior, num_draws": lambda p: sample_prior(num_draws=HUGE),
    "sample_prior, seed": lambda p: sample_prior(seed=HUGE),
    "simulate, num_queries": lambda p: simulate(load_truth(), num_queries=HUGE, seed=0),
    "simulate, seed": lambda p: simulate(load_truth(), num_queries=1, seed=HUGE),
}


@pytest.mark.parametrize("case", CALLS)
def test_calls(case: str, small_posterior: Posterior) -> None:
    with pytest.raises(InputError, match=f"{case.split(', ')[1]} must be at most .*; got {HUGE}"):
        CALLS[case](small_posterior)


def test_long_lists_of_names_are_cut() -> None:
    assert names_of(map(str, range(10_000))).endswith("'8', '9' and 9,990 more")
    assert names_of("abcdefghij") == ", ".join(map(repr, "abcdefghij"))
    assert names_of(["x" * 10_000]) == repr("x" * 77 + "...")
