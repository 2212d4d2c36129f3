"""US dollars of each call: a column of costs, or tokens times prices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import suggest, typed_list
from cascade_bayes.errors import InputError
from cascade_bayes.reading.cells import number, show
from cascade_bayes.reading.columns import Table
from cascade_bayes.reading.files import one_line, parse_json
from cascade_bayes.reading.layout import Layout


def costs(
    table: Table,
    prices: Mapping[str, Mapping[str, float]] | str | os.PathLike[str] | None,
    layout: Layout,
) -> NDArray[np.float64]:
    """US dollars per row: what the layout says, or tokens times prices, or else the `cost` column.

    Where the layout does without dollars, deferrals: none for a call of the first model, one for any other.
    """
    if prices is not None and (layout.cost_per_call is not None or not layout.costs):
        raise InputError(
            "prices (--prices) are given, and cost_per_call (--cost-per-call) or costs=False (--no-costs) "
            "too: give one of them."
        )
    if layout.cost_per_call is not None:
        given = layout.cost_per_call
        for name in table.model_names:
            if name not in given:
                raise InputError(
                    f"cost_per_call (--cost-per-call) has no entry for model {show(name)}. "
                    f"{suggest(name, list(given))}"
                )
        return np.array([given[name] for name in table.model_names])[table.model_codes]
    if not layout.costs:
        return (table.model_codes > 0).astype(np.float64)
    per_million = None if prices is None else read_prices(prices)  # checked even if unused
    tokens = table.has("tokens_in") and table.has("tokens_out")
    if per_million is not None and tokens:
        for name in table.model_names:
            if name not in per_million:
                raise InputError(
                    f"the prices have no entry for model {show(name)}. {suggest(name, list(per_million))}"
                )
        rate = np.array([per_million[name] for name in table.model_names])[table.model_codes]
        tokens_in = table.amounts("tokens_in", "tokens")
        tokens_out = table.amounts("tokens_out", "tokens")
        return (tokens_in * rate[:, 0] + tokens_out * rate[:, 1]) / 1e6
    if table.has("cost"):
        return table.amounts("cost", "US dollars per call")
    if tokens:
        raise InputError(
            "the table has tokens but no costs: pass prices=..., US dollars per million tokens (--prices "
            "FILE), or add a column 'cost'."
        )
    each = typed_list(table.model_names, "=DOLLARS", "MODEL=DOLLARS,...")
    raise InputError(
        "the table must have costs: add a column 'cost' (US dollars per call), or columns 'tokens_in' and "
        "'tokens_out' together with prices=... (--prices FILE); or say what a call costs, "
        f"cost_per_call={{...}} (--cost-per-call {each}); or do without, costs=False, models=[...] "
        f"(--no-costs --models {typed_list(by_accuracy(table))}, in the order in which they are to be "
        "asked)."
    )


def by_accuracy(table: Table) -> list[str]:
    """Return the models of a table by how often they are right, the least often first."""
    names = list(table.model_names)
    if not table.has("correct"):
        return names
    try:
        correct, labelled = table.labels("correct")
    except InputError:
        return names
    codes = table.model_codes
    count = np.bincount(codes[labelled], minlength=len(names))
    right = np.bincount(codes[correct], minlength=len(names))
    return [names[i] for i in np.argsort(right / np.maximum(count, 1), kind="stable")]


def read_prices(
    prices: Mapping[str, Mapping[str, float]] | str | os.PathLike[str],
) -> dict[str, tuple[float, float]]:
    """Return US dollars per million input and output tokens, by model."""
    example = '{"model-a": {"in": 0.15, "out": 0.6}} in US dollars per million tokens'
    place = "the prices"
    record: Any = prices
    if isinstance(prices, str | os.PathLike):
        place = f"the price file {str(prices)!r}"
        try:
            record = parse_json(Path(prices).read_text(encoding="utf-8-sig"))
        except FileNotFoundError as error:
            raise InputError(f"{place} does not exist; check the path.") from error
        except RecursionError as error:
            raise InputError(f"{place} has brackets nested too deeply. Write {example}.") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{place} cannot be read: {one_line(error)}. Write {example}.") from error
    if not isinstance(record, Mapping):
        raise InputError(f"{place} must map models to prices; write {example}.")
    result: dict[str, tuple[float, float]] = {}
    for key, entry in record.items():
        model = str(key)
        if model in result:
            raise InputError(f"{place} must name each model once; {show(model)} occurs twice. Keep one.")
        pair = []
        for side in ("in", "out"):
            value = entry.get(side) if isinstance(entry, Mapping) else None
            price = _price(value)
            if not 0.0 <= price < np.inf:
                raise InputError(
                    f"{place} must give a finite number >= 0 as {side!r} of model {show(model)}; got "
                    f"{show(value)}. Write {example}."
                )
            pair.append(price)
        result[model] = (pair[0], pair[1])
    _check_unit(result, place)
    return result


def _price(value: Any) -> float:
    """Return a price as a float, nan if it is no number; text is none either."""
    if isinstance(value, str):
        return np.nan
    try:
        return number(value)
    except ValueError:
        return np.nan


LEAST_PRICE = 0.001
"""US dollars per million tokens below which no model is sold.

The smallest models of the cheapest providers cost 0.005 to 0.02, and electricity alone about 0.01. The
dearest tokens there are, at some 600 dollars per million, cost 0.0006 each, which is still below.
"""


def _check_unit(prices: Mapping[str, tuple[float, float]], place: str) -> None:
    """Refuse prices per token, which would make every call a million times too cheap."""
    for model, pair in prices.items():
        if 0.0 < max(pair) < LEAST_PRICE:
            raise InputError(
                f"{place} must be in US dollars per million tokens; those of model {show(model)}, "
                f"{pair[0]!r} in and {pair[1]!r} out, look like prices per token. Multiply them by "
                "1,000,000; if a million tokens are that cheap, give a column 'cost' instead."
            )
