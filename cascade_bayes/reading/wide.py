"""Wide tables: a row for each query, and for each model columns of what is known of its call.

A column's name is that of one of our columns and that of a model, in either order, with a blank, an
underscore, a hyphen, a dot, a colon or a slash between: ``conf_small``, ``correct_small``, ``small.cost``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import MAX_LENGTH, names_of
from cascade_bayes.errors import InputError
from cascade_bayes.reading.cells import is_missing
from cascade_bayes.reading.headings import KIND_OF_NAME, SYNONYMS, fold, guesses, resolve, typed
from cascade_bayes.reading.layout import COLUMNS, Layout

OF_CALLS = COLUMNS[2:]
"""Our columns of which a wide table has one for each model."""

_BETWEEN = r"[\s_\-.:/|]+"


class Wide(NamedTuple):
    """Which column of a wide table is which.

    Attributes
    ----------
    query
        The table's column of names of queries.
    cells
        The table's column of each of ours and each model.
    models
        Names of the models, in order of their columns of confidences.
    lone
        Columns of models that have no column of confidences.
    """

    query: str
    cells: dict[tuple[str, str], str]
    models: list[str]
    lone: list[str]


def find_wide(found: Sequence[str], layout: Layout, place: str) -> Wide:
    """Return which column of a wide table is which.

    Raises
    ------
    InputError
        If there are no columns of confidences, or none of names of queries.
    """
    named = layout.columns or {}
    cells, models = _split(found, {ours: (named.get(ours, ours),) for ours in OF_CALLS})
    if not models:
        looks = looks_wide(found, layout)
        advice = looks or (
            'Name what they begin with, as in columns={"confidence": "prob"} (--columns confidence=prob).'
        )
        raise InputError(
            f"the {place} is read as wide and has no columns of confidences such as 'conf_small' and "
            f"'conf_large'; it has {names_of(found)}. {advice}"
        )
    rest = [name for name in found if name not in cells.values()]
    of_query = Layout(columns={"query": named["query"]}) if "query" in named else Layout()
    resolved = resolve(rest, of_query, place)
    if "query" not in resolved:
        guess = guesses(rest, {}).get("query")
        pass_it = typed(dict(named) | {"query": guess or "NAME"})
        what = f"Did you mean {guess!r}? Pass" if guess else "Add one that numbers the rows, or pass"
        raise InputError(
            f"the {place} has no column 'query'; it has {names_of(rest)} besides those of models. {what} "
            f"{pass_it}."
        )
    lone = [name for (_, model), name in cells.items() if model not in models]
    kept = {key: name for key, name in cells.items() if key[1] in models}
    return Wide(resolved["query"], kept, models, lone)


def looks_wide(found: Sequence[str], layout: Layout, kind: str = "") -> str | None:
    """Return what to pass for a table that looks wide, None for one that does not.

    Parameters
    ----------
    found
        Names of its columns.
    layout
        What was passed already.
    kind
        What its confidences are said to be.
    """
    named = layout.columns or {}
    found = [name for name in found if name.isprintable() and len(name) <= MAX_LENGTH]  # to be typed
    for stem in (named.get("confidence", "confidence"), *SYNONYMS["confidence"]):
        cells, models = _split(found, {"confidence": (stem,)})
        if len(models) < 2:
            continue
        columns = dict(named)
        if stem not in ("confidence", "conf"):
            columns["confidence"] = _stem_of(cells["confidence", models[0]], models[0])
        for ours in OF_CALLS[1:]:
            for other in (ours, *SYNONYMS[ours]):
                these = _split(found, {"confidence": (stem,), ours: (other,)})[0]
                if these.keys() >= {(ours, model) for model in models}:
                    cells |= these
                    if other != ours:
                        columns.setdefault(ours, _stem_of(these[ours, models[0]], models[0]))
                    break
        rest = [name for name in found if name not in cells.values()]
        if "query" not in columns and "query" not in resolve(rest, Layout(), "table"):
            columns["query"] = guesses(rest, {}).get("query", "NAME")
        told = KIND_OF_NAME.get(fold(columns.get("confidence", "")))
        more = typed(columns, None if told == kind else told, wide=True)
        if layout.wide:
            return f"Pass {more}."
        first, second = (cells["confidence", model] for model in models[:2])
        return f"It looks wide, with a column for each model, such as {first!r} and {second!r}: pass {more}."
    return None


def _stem_of(name: str, model: str) -> str:
    """Return what the name of a column says besides a model's name."""
    name = name.strip()
    rest = name.removesuffix(model) if name.endswith(model) else name.removeprefix(model)
    return re.sub(rf"^{_BETWEEN}|{_BETWEEN}$", "", rest)


def _split(
    found: Sequence[str], stems: Mapping[str, Sequence[str]]
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Return columns by what they hold and of which model, and the models that have confidences.

    Of names with the model behind and names with the model in front, those count that give more models.
    """
    best: tuple[dict[tuple[str, str], str], list[str]] = ({}, [])
    patterns = {
        ours: [*words, *(["conf"] if ours == "confidence" and "confidence" in words else [])]
        for ours, words in stems.items()
    }
    for form in (rf"{{stem}}{_BETWEEN}(?P<model>.*\S)", rf"(?P<model>\S.*?){_BETWEEN}{{stem}}"):
        cells: dict[tuple[str, str], str] = {}
        for ours, words in patterns.items():
            for word in words:
                stem = r"[\s_\-]*".join(map(re.escape, fold(word)))
                pattern = re.compile(form.replace("{stem}", stem), re.IGNORECASE)
                for name in found:
                    if match := pattern.fullmatch(name.strip()):
                        cells.setdefault((ours, match["model"].strip()), name)
        models = [model for ours, model in cells if ours == "confidence"]
        if len(models) > len(best[1]):
            best = cells, models
    return best


def to_long(
    arrays: Mapping[str, NDArray[Any]], wide: Wide
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Return the columns of a long table, and which row of the wide one each entry is of.

    A model has a row for a query where any of its cells is filled.

    Parameters
    ----------
    arrays
        Columns of the wide table, by its own names.
    wide
        Which is which.
    """
    num_rows, models = len(arrays[wide.query]), wide.models
    there = np.zeros((num_rows, len(models)), dtype=bool)
    columns: dict[str, NDArray[Any]] = {}
    for ours in OF_CALLS:
        each = [arrays[wide.cells[ours, m]] if (ours, m) in wide.cells else None for m in models]
        if all(values is None for values in each):
            continue
        plain = all(values is not None and values.dtype != object for values in each)
        table = np.full((num_rows, len(models)), np.nan if plain else None, dtype=float if plain else object)
        for i, values in enumerate(each):
            if values is not None:
                table[:, i] = values
                there[:, i] |= ~np.isnan(table[:, i]) if plain else [not is_missing(cell) for cell in values]
        columns[ours] = table
    at = np.flatnonzero(there.ravel())
    long = {ours: table.ravel()[at] for ours, table in columns.items()}
    row, model = at // len(models), at % len(models)
    names = np.array(models, dtype=object)
    return {"query": arrays[wide.query][row], "model": names[model], **long}, row + 1
