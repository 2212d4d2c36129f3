"""Long tables to typed columns, with every complaint naming its place.

Nothing here knows about cascades; `reader` assembles what this module parses, and `cells` says what one cell
may hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from cascade_bayes.errors import InputError
from cascade_bayes.reading import cells
from cascade_bayes.reading.cells import show
from cascade_bayes.transforms import KINDS, in_domain

# Log-probabilities this little above 0 are sums of rounded terms, not another scale.
_ROUNDING = 1e-6

_T = TypeVar("_T")


@dataclass(frozen=True)
class Table:
    """A long table whose `query` and `model` are coded, and whose other columns parse on request.

    Parameters
    ----------
    columns : mapping of str to ndarray, each of shape (num_rows,)
        The known columns, of numbers or of objects.
    row_numbers : ndarray of int, shape (num_rows,)
        1-based data rows of the source, for messages.
    query_codes, model_codes : ndarray of int, shape (num_rows,)
        Positions in the names below.
    query_names, model_names : tuple of str
        In order of first appearance, unless `restrict` was given another order.
    """

    columns: Mapping[str, NDArray[Any]]
    row_numbers: NDArray[np.int64]
    query_codes: NDArray[np.int64]
    query_names: tuple[str, ...]
    model_codes: NDArray[np.int64]
    model_names: tuple[str, ...]

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]]) -> Table:
        """Code the names; `InputError` if one is missing or a (query, model) pair occurs twice."""
        query_codes, query_names = _code_names(columns["query"], "query")
        model_codes, model_names = _code_names(columns["model"], "model")
        rows = np.arange(1, len(query_codes) + 1)
        table = cls(columns, rows, query_codes, query_names, model_codes, model_names)
        pair = query_codes * len(model_names) + model_codes
        order = np.argsort(pair, kind="stable")
        repeats = np.flatnonzero(np.diff(pair[order]) == 0)
        if repeats.size:
            later = order[repeats + 1]
            at = repeats[np.argmin(later)]
            first, second = int(order[at]), int(order[at + 1])
            raise InputError(
                f"each pair of query and model may occur once; query {show(table.query(second))} with "
                f"model {show(table.model(second))} is in row {first + 1} and again in row "
                f"{second + 1}. Keep one of the rows."
            )
        return table

    def query(self, i: int) -> str:
        """Name of the query at row position `i`."""
        return self.query_names[self.query_codes[i]]

    def model(self, i: int) -> str:
        """Name of the model at row position `i`."""
        return self.model_names[self.model_codes[i]]

    def fail(self, i: int, column: str, rule: str, got: str, remedy: str) -> NoReturn:
        """Raise the `InputError` for the value of `column` at row position `i`."""
        raise InputError(
            f"{column} of model {show(self.model(i))} must be {rule}; {got} "
            f"in row {self.row_numbers[i]} (query {show(self.query(i))}). {remedy}"
        )

    def has(self, column: str) -> bool:
        """Whether the source has this column."""
        return column in self.columns

    def restrict(self, models: Sequence[str]) -> Table:
        """Keep the rows of some models, in this order; queries without a row are dropped."""
        code = {name: position for position, name in enumerate(models)}
        recode = np.array([code.get(name, -1) for name in self.model_names])
        keep = np.flatnonzero(recode[self.model_codes] >= 0)
        kept, query_codes = np.unique(self.query_codes[keep], return_inverse=True)
        return Table(
            {name: values[keep] for name, values in self.columns.items()},
            self.row_numbers[keep],
            query_codes,
            tuple(self.query_names[i] for i in kept),
            recode[self.model_codes[keep]],
            tuple(models),
        )

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Parse a column of numbers, nan where missing; text such as '-Infinity' is understood."""
        values = self.columns[column]
        if values.dtype != object:
            with np.errstate(over="ignore"):
                parsed = np.asarray(values, dtype=np.float64)
            if (np.isinf(parsed) == np.isinf(values)).all():  # not if numbers of 128 bits overflow
                return parsed
            values = values.astype(object)
        return np.array(self._parse(column, values, cells.number, "a number"), dtype=np.float64)

    def _parse(self, column: str, values: NDArray[Any], parse: Callable[[Any], _T], rule: str) -> list[_T]:
        try:
            return [parse(value) for value in values]
        except ValueError:
            for i, value in enumerate(values):
                try:
                    parse(value)
                except ValueError as error:
                    self.fail(i, column, rule, f"got {show(value)}", str(error))
            raise

    def amounts(self, column: str, what: str, *, required: bool = True) -> NDArray[np.float64]:
        """Parse a column of finite numbers >= 0, and none missing if `required`."""
        values = self.numbers(column)
        bad = (values < 0.0) | np.isinf(values)
        if required:
            bad |= np.isnan(values)
        if bad.any():
            i = int(np.argmax(bad))
            missing = np.isnan(values[i])
            got = "it is missing" if missing else f"got {float(values[i])!r}"
            remedy = "Correct it or remove the row." if required else "Correct it or leave it empty."
            self.fail(i, column, f"a finite number >= 0 ({what})", got, remedy)
        return values

    def labels(self, column: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Parse right and wrong: ``(correct, labelled)``, with `correct` False where unlabelled."""
        values = self.columns[column]
        if values.dtype != object:  # a table may have many rows: no call for each
            missing, right = np.isnan(values), values == 1
            if (missing | right | (values == 0)).all():
                return right, ~missing
        parsed = self._parse(column, values, cells.label, "0, 1, true, false or empty")
        return (
            np.array([value is True for value in parsed], dtype=np.bool_),
            np.array([value is not None for value in parsed], dtype=np.bool_),
        )


def _code_names(values: NDArray[Any], column: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Code the names of a column by first appearance; `InputError` for one missing or ambiguous."""
    position: dict[str, int] = {}
    known: dict[Any, int] = {}  # codes of cells seen before, by type: True and 1 are equal to Python
    codes = np.empty(len(values), dtype=np.int64)
    for i, value in enumerate(values):
        key = value if type(value) is str else _key(value)
        code = known.get(key, -1) if key is not None else -1
        if code < 0:
            text = _name(value, column, i + 1)
            code = position.setdefault(text, len(position))
            if key is not None:
                known[key] = code
        codes[i] = code
    names = tuple(position)
    looks: dict[str, int] = {}
    for code, text in enumerate(names):
        other = looks.setdefault(cells.look(text), code)
        if other != code:
            rows = [int(np.argmax(codes == each)) + 1 for each in (other, code)]
            raise InputError(
                f"names in column {column!r} must differ by more than spaces around them; "
                f"{show(names[other])} in row {rows[0]} and {show(text)} in row {rows[1]} do not. "
                "Write them alike."
            )
    return codes, names


def _key(value: Any) -> Any:
    return (type(value), value) if isinstance(value, int | np.integer | np.floating) else None


def _name(value: Any, column: str, row: int) -> str:
    try:
        text = cells.name(value)
    except ValueError as error:
        raise InputError(
            f"{column} must be a plain value, text or a number; got {show(value)} in row {row}. {error}"
        ) from error
    if not text.strip():
        raise InputError(
            f"{column} must be given in every row; it is missing in row {row}. Fill it in or remove the row."
        )
    return text


def confidences(table: Table, kind: str, *, of_policy: bool = False) -> NDArray[np.float64]:
    """Parse the raw confidences, nan where missing; `InputError` if one is outside the domain of its kind.

    The kind is one that the user named, or that of a policy, for which there is no other.
    """
    values = table.numbers("confidence")
    bad = ~in_domain(values, kind)
    if bad.any():
        i = int(np.argmax(bad))
        rule = f"{KINDS[kind]} for kind {kind!r}"
        remedy = _remedy(values, kind, of_policy)
        table.fail(i, "confidence", rule, f"got {float(values[i])!r}", remedy)
    return values


def _remedy(values: NDArray[np.float64], kind: str, of_policy: bool) -> str:
    """Return what to do about confidences outside the domain of their kind."""
    known = values[~np.isnan(values)]
    wrong = np.unique(known[~in_domain(known, kind)])
    if kind == "score":
        return "Replace it by a large finite score, or leave it empty."
    if kind == "logprob" and known.max() <= _ROUNDING:
        return "This looks like rounding: replace positive values by 0."
    if kind == "probability" and wrong.size == 1 and wrong[0] < 0.0 and (known > 0.0).any():
        return "If it stands for a confidence that is not known, leave it empty."
    if of_policy:
        return f"The policy was tuned on confidences of kind {kind!r}: give them on the same scale."
    if kind == "logprob" and known.min() >= 0.0 and known.max() <= 1.0:
        form, name = "probabilities", "probability"
    elif kind == "probability" and known.max() <= 0.0:
        form, name = "log-probabilities", "logprob"
    else:
        return 'Correct it, or for another scale pass confidence="score" (--confidence score).'
    return f'These look like {form}: pass confidence="{name}" (--confidence {name}).'
