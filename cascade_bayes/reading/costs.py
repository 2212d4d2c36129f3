"""US dollars of each call: a column of costs, or tokens times prices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import suggest
from cascade_bayes.errors import InputError
from cascade_bayes.reading.columns import Table


def costs(table: Table, prices: Mapping[str, Mapping[str, float]] | str | Path | None) -> NDArray[np.float64]:
    """US dollars per row: tokens times prices where both are given, else the `cost` column."""
    per_million = None if prices is None else _read_prices(prices)  # checked even if unused
    tokens = table.has("tokens_in") and table.has("tokens_out")
    if per_million is not None and tokens:
        for name in table.model_names:
            if name not in per_million:
                raise InputError(
                    f"the prices have no entry for model {name!r}. {suggest(name, list(per_million))}"
                )
        rate = np.array([per_million[name] for name in table.model_names])[table.model_codes]
        tokens_in = table.amounts("tokens_in", "tokens")
        tokens_out = table.amounts("tokens_out", "tokens")
        return (tokens_in * rate[:, 0] + tokens_out * rate[:, 1]) / 1e6
    if table.has("cost"):
        return table.amounts("cost", "US dollars per call")
    if tokens:
        raise InputError(
            "the table has tokens but no costs: pass prices=..., US dollars per million tokens "
            "(--prices FILE), or add a column 'cost'."
        )
    raise InputError(
        "the table must have costs: add a column 'cost' (US dollars per call), or columns "
        "'tokens_in' and 'tokens_out' together with prices=... (--prices FILE)."
    )


def _read_prices(
    prices: Mapping[str, Mapping[str, float]] | str | Path,
) -> dict[str, tuple[float, float]]:
    example = '{"model-a": {"in": 0.15, "out": 0.6}} in US dollars per million tokens'
    place = "the prices"
    record: Any = prices
    if isinstance(prices, str | Path):
        place = f"the price file {str(prices)!r}"
        try:
            record = json.loads(Path(prices).read_text(encoding="utf-8-sig"))
        except FileNotFoundError as error:
            raise InputError(f"{place} does not exist; check the path.") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{place} cannot be read: {error}. Write {example}.") from error
    if not isinstance(record, Mapping):
        raise InputError(f"{place} must map models to prices; write {example}.")
    result = {}
    for model, entry in record.items():
        pair = []
        for side in ("in", "out"):
            value = entry.get(side) if isinstance(entry, Mapping) else None
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not number or not (0.0 <= float(value) < np.inf):  # type: ignore[arg-type]
                raise InputError(
                    f"{place} must give a finite number >= 0 as {side!r} of model {str(model)!r}; "
                    f"got {value!r}. Write {example}."
                )
            pair.append(float(value))  # type: ignore[arg-type]
        result[str(model)] = (pair[0], pair[1])
    return result
