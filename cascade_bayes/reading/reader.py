"""A long table of results to the arrays of one cascade."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_bayes._names import check_models, listed, names_of, suggest, typed_list
from cascade_bayes._units import AS_THEY_STAND, DEFERRALS, DOLLARS, Currency, GivenKind, Units
from cascade_bayes.data import CascadeData, mean_cost
from cascade_bayes.errors import DataWarning, InputError
from cascade_bayes.reading.cells import show
from cascade_bayes.reading.columns import Table
from cascade_bayes.reading.confidence import confidences
from cascade_bayes.reading.costs import by_accuracy, costs
from cascade_bayes.reading.frames import load_columns
from cascade_bayes.reading.headings import fold
from cascade_bayes.reading.layout import Layout, with_layout
from cascade_bayes.reading.log import ThresholdRule, check_log, read_rule
from cascade_bayes.reading.scales import check_scale
from cascade_bayes.transforms import ConfidenceMap

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ["read_table"]


@with_layout
def read_table(
    source: str | Path | pandas.DataFrame | polars.DataFrame,
    *,
    confidence: str = "logprob",
    models: Sequence[str] | None = None,
    prices: Mapping[str, Mapping[str, float]] | str | Path | None = None,
    confidence_map: ConfidenceMap | None = None,
    logged_policy: ThresholdRule | Mapping[str, float] | None = None,
    **layout: Any,
) -> CascadeData:
    """Read a long table of results, one row per query and model.

    Parameters
    ----------
    source : path, pandas.DataFrame or polars.DataFrame
        A file ending in .csv, .tsv, .parquet, .jsonl, .ndjson or .json (JSON Lines, or one array of
        objects) or .xlsx (with the package openpyxl), all but the last and Parquet also with .gz or .zst
        behind; or a frame, of pyarrow and DuckDB and a lazy one of polars too. Columns `query`, `model`,
        `confidence`; optionally `correct` (0 or 1, true or false, yes or no, pass or fail, correct or
        incorrect, t or f, C or I, or empty), `latency_ms`, and `cost` in US dollars per call or `tokens_in`
        and `tokens_out`. Capital letters, blanks, underscores and hyphens in their names make no
        difference. Other columns are ignored; a (query, model) row may be absent. Numbers are plain digits
        with a decimal point (``-0.25``, ``1e-3``; a decimal comma if semicolons or tabs separate the
        fields) or infinite (``inf``, ``-Infinity``); an empty field, NA, N/A, NaN, null and none are
        missing. Names are text, numbers or dates, and must differ by more than spaces around them.
    confidence : {'logprob', 'probability', 'score', 'percent', 'uncertainty', 'nll', 'perplexity'}
        Kind of confidence: natural log of a probability in [-inf, 0], probability in [0, 1] (``83.5%``
        too), or any finite number that grows with confidence. A percentage, 0 to 100, and an uncertainty, 1
        - probability, are read as probabilities; a negative log-probability and a perplexity, 1 /
        probability, as log-probabilities. Thresholds are on the scale that confidences are read as.
    models : sequence of str, optional
        The models to keep, in cascade order; queries without a row for any of them are dropped. By
        default all, by increasing mean cost, ties by first appearance.
    prices : mapping or path of a JSON file, optional
        ``{model: {"in": ..., "out": ...}}`` in US dollars per million input and output tokens. Used
        when the table has token columns, then in place of a `cost` column.
    confidence_map : ConfidenceMap, optional
        The map to use, entries in cascade order: pass that of the training data when reading test
        data. By default one is fitted on this table.
    logged_policy : Policy, or mapping of model to threshold, optional
        The rule under which a running cascade wrote this log: a query went on iff its confidence was below
        the threshold. The mapping names every model but the last in cascade order. It gives the order of the
        models and is checked against the rows; the likelihood of a log needs no more than its rows.
    **layout
        How the table is laid out, where it is not as above, such as ``columns={"query": "question_id"}``:
        ``columns``, ``wide``, ``grades``, ``correct_above``, ``cost_per_call``, ``costs``. These are the
        attributes of `cascade_bayes.reading.layout.Layout`, which says what each means.

    Returns
    -------
    CascadeData
        Queries in order of first appearance.

    Raises
    ------
    InputError
        If the table, the prices or an argument cannot be used, or the rows contradict `logged_policy`; the
        message names the place.
    TypeError
        If an argument is of the wrong type: `source` neither a path nor a frame, `models` no list; or if
        there is no such option.

    Warns
    -----
    DataWarning
        If a CSV file may have been cut short inside its last field; rows say the same twice; names of models
        differ by capital letters, blanks, underscores or hyphens alone; or what may be labels is not read.

    Examples
    --------
    >>> import pandas as pd
    >>> from cascade_bayes import read_table
    >>> frame = pd.DataFrame(
    ...     {
    ...         "query": ["q1", "q1", "q2", "q2"],
    ...         "model": ["large", "small", "large", "small"],
    ...         "confidence": [-0.001, -0.4, 0.0, float("-inf")],
    ...         "tokens_in": [100, 100, 50, 50],
    ...         "tokens_out": [10, 10, 10, 10],
    ...     }
    ... )
    >>> prices = {"small": {"in": 0.1, "out": 0.1}, "large": {"in": 3, "out": 3}}
    >>> data = read_table(frame, confidence="logprob", prices=prices)
    >>> data.models
    ('small', 'large')
    >>> data.confidence
    array([[-0.4  , -0.001],
           [  -inf,  0.   ]])
    """
    options = Layout.of(layout)
    kind = _kind_of(confidence, options)
    if confidence_map is not None and not isinstance(confidence_map, ConfidenceMap):
        raise TypeError(
            "confidence_map must be a ConfidenceMap, such as that of the training data; got "
            f"{type(confidence_map).__name__}."
        )
    models = None if models is None else listed(models)
    table = Table.from_columns(*load_columns(source, options, confidence))
    rule = None if logged_policy is None else read_rule(logged_policy, table.model_names)
    models = _cascade_of(table, models, rule)
    if models is not None:
        table = table.restrict(models)
    elif not options.costs:
        order = typed_list(by_accuracy(table))
        raise InputError(
            "without costs nothing says in which order models are asked: list them, the one to be asked "
            f"first in front, models=[...] (--models {order})."
        )
    _warn_of_likeness(table.model_names)
    data = _assemble(
        table,
        confidences(table, confidence, options.grades),
        costs(table, prices, options),
        _labels(table, options),
        kind,
        _units_of(confidence, options, DOLLARS if options.costs else DEFERRALS),
        in_order=models is not None,
        confidence_map=confidence_map,
    )
    if rule is not None:
        check_log(rule, data.query_ids, ~np.isnan(data.cost), data.confidence)
    return data


def _kind_of(confidence: str, layout: Layout) -> str:
    """Return the kind that confidences are read as."""
    scale = check_scale(confidence)
    if layout.grades is None:
        return scale.kind
    if confidence not in ("logprob", "score"):  # the first is the default
        raise InputError(
            f"grades (--grades) are words, which are read as scores; got confidence={confidence!r} too. "
            "Leave one of them out."
        )
    return "score"


def _units_of(confidence: str, layout: Layout, cost: Currency) -> Units:
    """Return what a table's numbers are."""
    grades = () if layout.grades is None else tuple(layout.grades)
    given: GivenKind | None = None
    if not grades and check_scale(confidence).kind != confidence:
        given = confidence  # type: ignore[assignment]  # one of the four that are read as another
    return Units(cost, given, grades)


def _labels(table: Table, layout: Layout) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which answers are right, and of which that is known."""
    if not table.has("correct"):
        if layout.correct_above is not None:
            raise InputError(
                "correct_above (--correct-above) needs a column of scores, and the table has none called "
                '\'correct\'. Name it: columns={"correct": "NAME"} (--columns correct=NAME).'
            )
        none = np.zeros(len(table.query_codes), dtype=np.bool_)
        return none, none
    if layout.correct_above is not None:
        return table.scored_labels("correct", layout.correct_above)
    return table.labels("correct")


def _warn_of_likeness(models: Sequence[str]) -> None:
    """Say which models have names that people would take for one."""
    alike: dict[str, list[str]] = {}
    for name in models:
        alike.setdefault(fold(name), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            warnings.warn(
                f"models {names_of(names)} are read as different ones, though their names differ by capital "
                "letters, blanks, underscores or hyphens alone. If they are one, write them alike.",
                DataWarning,
                stacklevel=3,
            )


def _cascade_of(
    table: Table, models: tuple[str, ...] | None, rule: Mapping[str, Any] | None
) -> tuple[str, ...] | None:
    """Return the models of a cascade in its order, as they are asked for; None for all by their cost."""
    if rule is not None:
        if models is not None and models != tuple(rule):
            raise InputError(
                f"models must be those of logged_policy, {names_of(rule)}, in that order; got "
                f"{names_of(models)}. Leave models out."
            )
        models = tuple(rule)
    if models is not None:
        _check_not_swapped(table, models)
        return check_models(models, table.model_names, minimum=2)
    if len(table.model_names) < 2:
        raise InputError(
            f"a cascade needs at least two models; column 'model' holds only {names_of(table.model_names)}. "
            "Add the rows of another model."
        )
    return None


class AsFitted(NamedTuple):
    """What a policy keeps of the table that was fitted.

    Attributes
    ----------
    kind
        The kind of its thresholds.
    units
        What costs are counted in, and what confidences were in the table.
    call_cost
        Mean cost of a call by model.
    """

    kind: str
    units: Units = AS_THEY_STAND
    call_cost: Mapping[str, float] = {}


def read_for_policy(
    source: Any,
    models: Sequence[str],
    as_fitted: AsFitted,
    prices: Mapping[str, Mapping[str, float]] | str | Path | None = None,
    confidence: str | None = None,
    **layout: Any,
) -> CascadeData:
    """Read a table for a policy: its models, of which there may be one, in its order; its kind of confidence.

    Parameters
    ----------
    source
        The table: a file or a frame, as `read_table` takes it.
    models
        Names of the policy's models, in the order in which it asks them.
    as_fitted
        What the policy keeps of the table that was fitted.
    prices
        Prices of a million tokens, as `read_table` takes them.
    confidence
        What the table holds, a kind that is read as that of the policy; what the table of the fit held by
        default.
    **layout
        How the table is laid out, as `read_table` takes it.

    Raises
    ------
    InputError
        If `read_table` would raise it; also if the table lacks one of the models, or its kind of confidence
        is read as another.
    """
    kind, units = as_fitted.kind, as_fitted.units
    if units.grades and confidence is None and layout.get("grades") is None:
        layout = layout | {"grades": units.grades}
    in_deferrals = units.cost == DEFERRALS
    if not in_deferrals and not layout.get("costs", True):
        raise InputError(
            "costs=False (--no-costs) is for policies that were tuned without costs; this one has costs in "
            f"{units.cost}. Leave it out."
        )
    if in_deferrals:  # those of the first model of the fit, which need not be one of the policy's
        layout = layout | {"costs": True, "cost_per_call": as_fitted.call_cost}
        prices = None
    options = Layout.of(layout)
    given_as = confidence or units.given_as or kind
    read_as = _kind_of(given_as, options)
    if read_as != kind:
        given = "grades (--grades)" if options.grades is not None else f"kind {given_as!r}"
        raise InputError(
            f"the policy was tuned on confidences of kind {kind!r}, and {given} would be read as "
            f"{read_as!r}. Give the options that the table of the fit was read with."
        )
    table = Table.from_columns(*load_columns(source, options, given_as))
    _check_not_swapped(table, models)
    for name in models:
        if name not in table.model_names:
            raise InputError(
                f"the table lacks model {show(name)} of the policy. {suggest(name, table.model_names)} Add "
                "its rows, or tune a policy of the models that there are."
            )
    table = table.restrict(models)
    raw = confidences(table, given_as, options.grades, of_policy=True)
    cost, labels = costs(table, prices, options), _labels(table, options)
    of_table = _units_of(given_as, options, units.cost)
    return _assemble(table, raw, cost, labels, kind, of_table, in_order=True)


MAX_MODELS = 64
"""More models than any cascade has; so many names are those of something else, such as the queries."""

MAX_CELLS = 200_000_000
"""Queries times models, of which each takes 26 bytes."""

MAX_NAME_BYTES = 2_000_000_000
"""Bytes of the array of query names, in which every name takes the room of the longest."""


def _check_not_swapped(table: Table, models: Sequence[str]) -> None:
    """Point out that names listed as models are those of queries."""
    unknown = set(models) - set(table.model_names)
    if unknown and unknown <= set(table.query_names):
        raise InputError(
            f"models names {names_of(sorted(unknown))}, which the table has as queries: the columns 'query' "
            "and 'model' look swapped. Rename them."
        )


def _check_size(table: Table) -> None:
    """Refuse a table whose arrays no cascade needs and few memories hold."""
    queries, models = len(table.query_names), len(table.model_names)
    if models > MAX_MODELS:
        swapped = models > queries
        raise InputError(
            f"a cascade may have at most {MAX_MODELS} models; the table has {models} models and {queries} "
            f"{'query' if queries == 1 else 'queries'}, among the models {names_of(table.model_names[:2])}. "
            + (
                "The columns 'query' and 'model' look swapped: rename them, or"
                if swapped
                else "Column 'model' may hold something else, such as a model and its run: correct it, or"
            )
            + " choose models with models=['a', 'b'] (--models a,b)."
        )
    longest = max(map(len, table.query_names))
    if queries * models > MAX_CELLS or 4 * longest * queries > MAX_NAME_BYTES:
        raise InputError(
            f"the table is too large: {queries} queries of {models} models, with query names of up to "
            f"{longest} characters, would take gigabytes. Use fewer queries, and short names for them."
        )


def _assemble(
    table: Table,
    raw: NDArray[np.float64],
    cost: NDArray[np.float64],
    labels: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    kind: str,
    units: Units,
    *,
    in_order: bool,
    confidence_map: ConfidenceMap | None = None,
) -> CascadeData:
    """Put rows into arrays; models by increasing mean cost unless they are in order."""
    _check_size(table)
    correct, labelled = labels
    latency = None
    if table.has("latency_ms"):
        latency = table.amounts("latency_ms", "milliseconds", required=False)

    shape = (len(table.query_names), len(table.model_names))
    at = (table.query_codes, table.model_codes)

    def scatter(values: NDArray[Any], empty: Any) -> NDArray[Any]:
        array = np.full(shape, empty)
        array[at] = values
        return array

    cost_array = scatter(cost, np.nan)
    call_cost = mean_cost(cost_array)
    if not in_order:
        # Twelve digits: means of the same price over different counts are ties.
        order = np.argsort([float(f"{mean:.12g}") for mean in call_cost], kind="stable")
    else:
        order = np.arange(shape[1])
    confidence_array = scatter(raw, np.nan)[:, order]
    if confidence_map is None:
        confidence_map = ConfidenceMap.fit(confidence_array, kind)
    return CascadeData(
        models=tuple(table.model_names[i] for i in order),
        query_ids=np.array(table.query_names, dtype=np.str_),
        confidence=confidence_array,
        correct=scatter(correct, False)[:, order],
        labelled=scatter(labelled, False)[:, order],
        cost=cost_array[:, order],
        latency_ms=None if latency is None else scatter(latency, np.nan)[:, order],
        call_cost=call_cost[order],
        kind=kind,
        confidence_map=confidence_map,
        units=units,
    )
