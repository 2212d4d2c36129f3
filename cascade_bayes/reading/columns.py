"""Long tables to typed columns, with every complaint naming its place.

Nothing here knows about cascades; `reader` assembles what this module parses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cascade_bayes.errors import InputError
from cascade_bayes.transforms import KINDS, in_domain

# Spellings of a missing value in text formats, in lower case.
_MISSING = frozenset({"", "na", "n/a", "<na>", "nan", "null", "none"})
_LABELS = {"true": 1, "1": 1, "1.0": 1, "false": 0, "0": 0, "0.0": 0}

# Log-probabilities this little above 0 are sums of rounded terms, not another scale.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Table:
    """A long table whose `query` and `model` are coded, and whose other columns parse on request.

    Parameters
    ----------
    frame : pandas.DataFrame
        The known columns.
    row_numbers : ndarray of int, shape (num_rows,)
        1-based data rows of the source, for messages.
    query_codes, model_codes : ndarray of int, shape (num_rows,)
        Positions in the names below.
    query_names, model_names : tuple of str
        In order of first appearance, unless `restrict` was given another order.
    """

    frame: Any
    row_numbers: NDArray[np.int64]
    query_codes: NDArray[np.int64]
    query_names: tuple[str, ...]
    model_codes: NDArray[np.int64]
    model_names: tuple[str, ...]

    @classmethod
    def from_frame(cls, frame: Any) -> Table:
        """Code the ids; `InputError` if one is missing or a (query, model) pair occurs twice."""
        query_codes, query_names = _code_ids(frame, "query")
        model_codes, model_names = _code_ids(frame, "model")
        rows = np.arange(1, len(frame) + 1)
        table = cls(frame, rows, query_codes, query_names, model_codes, model_names)
        pair = query_codes * len(model_names) + model_codes
        order = np.argsort(pair, kind="stable")
        repeats = np.flatnonzero(np.diff(pair[order]) == 0)
        if repeats.size:
            later = order[repeats + 1]
            at = repeats[np.argmin(later)]
            first, second = int(order[at]), int(order[at + 1])
            raise InputError(
                f"each pair of query and model may occur once; query {table.query(second)!r} with "
                f"model {table.model(second)!r} is in row {first + 1} and again in row "
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
            f"{column} of model {self.model(i)!r} must be {rule}; {got} "
            f"in row {self.row_numbers[i]} (query {self.query(i)!r}). {remedy}"
        )

    def has(self, column: str) -> bool:
        """Whether the source has this column."""
        return column in self.frame.columns

    def restrict(self, models: Sequence[str]) -> Table:
        """Keep the rows of some models, in this order; queries without a row are dropped."""
        code = {name: position for position, name in enumerate(models)}
        recode = np.array([code.get(name, -1) for name in self.model_names])
        keep = np.flatnonzero(recode[self.model_codes] >= 0)
        kept, query_codes = np.unique(self.query_codes[keep], return_inverse=True)
        return Table(
            self.frame.iloc[keep],
            self.row_numbers[keep],
            query_codes,
            tuple(self.query_names[i] for i in kept),
            recode[self.model_codes[keep]],
            tuple(models),
        )

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Parse a column of numbers, nan where missing; text such as '-Infinity' is understood."""
        from pandas.api.types import is_bool_dtype, is_numeric_dtype

        series = self.frame[column]
        if is_numeric_dtype(series.dtype) and not is_bool_dtype(series.dtype):
            return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
        values = series.to_numpy(dtype=object)
        present = ~series.isna().to_numpy()
        try:
            if any(isinstance(value, bool | np.bool_) for value in values):
                raise TypeError
            parsed = values[present].astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            present &= np.array([not _is_missing(value) for value in values])
            parsed = np.array([self._number(column, int(i)) for i in np.flatnonzero(present)])
        result = np.full(len(values), np.nan)
        result[present] = parsed
        return result

    def _number(self, column: str, i: int) -> float:
        value = self.frame[column].iloc[i]
        try:
            if isinstance(value, bool | np.bool_):
                raise TypeError
            return float(value)
        except (TypeError, ValueError, OverflowError):
            self.fail(i, column, "a number", f"got {_show(value)}", "Correct it.")

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
        codes, uniques = _factorize(self.frame[column], column)
        parsed = np.array([_label(value) for value in uniques] + [-1])  # code -1: missing
        values = parsed[codes]
        if (values == -2).any():
            i = int(np.argmax(values == -2))
            got = f"got {_show(self.frame[column].iloc[i])}"
            self.fail(i, column, "0, 1, true, false or empty", got, "Correct it or leave it empty.")
        return values == 1, values >= 0


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _MISSING
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _plain(value: Any) -> Any:
    """Return the Python value of a NumPy scalar: messages should not say np.float64(2.0)."""
    return value.item() if isinstance(value, np.generic) else value


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _show(value: Any) -> str:
    text = repr(_plain(value))
    return text if len(text) <= 60 else text[:57] + "..."


def _label(value: Any) -> int:
    """1 right, 0 wrong, -1 missing, -2 not a label."""
    if _is_missing(value):
        return -1
    if isinstance(value, str):
        return _LABELS.get(value.strip().lower(), -2)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return -2
    return int(number) if number in (0.0, 1.0) else -2


def _factorize(series: Any, column: str) -> tuple[NDArray[np.int64], list[Any]]:
    import pandas as pd

    try:
        codes, uniques = pd.factorize(series, use_na_sentinel=True)
    except TypeError as error:  # lists and dictionaries cannot be hashed
        row = next(i for i, v in enumerate(series, start=1) if not _hashable(v))
        raise InputError(
            f"{column} must be a plain value; got {_show(series.iloc[row - 1])} in row {row}. Correct it."
        ) from error
    return np.asarray(codes, dtype=np.int64), list(uniques)


def _code_ids(frame: Any, column: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    codes, uniques = _factorize(frame[column], column)
    texts = [_id_text(value) for value in uniques]
    position: dict[str, int] = {}  # 1, 1.0 and '1' are one id
    recode = np.array([position.setdefault(text, len(position)) for text in texts] + [-1])
    blank = np.array([not text.strip() for text in texts] + [True])
    if blank[codes].any():
        row = int(np.argmax(blank[codes])) + 1
        raise InputError(
            f"{column} must be given in every row; it is missing in row {row}. Fill it in or remove the row."
        )
    return recode[codes], tuple(position)


def _id_text(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))  # ids that pandas turned into floats read as they did in the file
    return str(_plain(value))


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
    if kind == "score":
        return "Replace it by a large finite score, or leave it empty."
    if kind == "logprob" and known.max() <= _ROUNDING:
        return "This looks like rounding: replace positive values by 0."
    if of_policy:
        return f"The policy was tuned on confidences of kind {kind!r}: give them on the same scale."
    if kind == "logprob" and known.min() >= 0.0 and known.max() <= 1.0:
        form, name = "probabilities", "probability"
    elif kind == "probability" and known.max() <= 0.0:
        form, name = "log-probabilities", "logprob"
    else:
        return 'Correct it, or for another scale pass confidence="score" (--confidence score).'
    return f'These look like {form}: pass confidence="{name}" (--confidence {name}).'
