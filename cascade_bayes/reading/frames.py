"""Files and frames to a pandas frame of the known columns.

pandas and pyarrow are imported inside the functions that need them, so that importing the library
does not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cascade_bayes.errors import InputError

COLUMNS = (
    "query",
    "model",
    "confidence",
    "correct",
    "cost",
    "tokens_in",
    "tokens_out",
    "latency_ms",
)
REQUIRED = COLUMNS[:3]


def load_frame(source: Any) -> Any:
    """Read a path or frame into a pandas frame that holds the known columns only.

    Raises
    ------
    InputError
        If the file is missing, unreadable or of an unknown format; if a required column is missing,
        a known column occurs twice, or there are no rows.
    TypeError
        If the source is neither a path nor a frame.
    """
    if isinstance(source, str | Path):
        place = f"table {str(source)!r}"
        frame = _load_file(Path(source), place)
    else:
        place = "table"
        frame = source
    if not hasattr(frame, "columns"):
        raise TypeError(
            f"the table must be a path, a pandas DataFrame or a polars DataFrame; got {type(frame).__name__}."
        )
    if hasattr(frame, "reset_index"):  # pandas, where query or model may be the index
        hidden = [n for n in frame.index.names if n in COLUMNS and n not in frame.columns]
        frame = frame.reset_index(level=hidden) if hidden else frame
    # polars and pandas list their column names; a pyarrow table calls them column_names.
    found = [str(name) for name in getattr(frame, "column_names", frame.columns)]
    for name in COLUMNS:
        if name in REQUIRED and name not in found:
            raise InputError(
                f"the {place} has no column {name!r}; it has {', '.join(map(repr, found))}. "
                "Rename or add it: 'query', 'model' and 'confidence' are required."
            )
        if found.count(name) > 1:
            raise InputError(f"the {place} has {found.count(name)} columns {name!r}; keep one of them.")
    wanted = [name for name in COLUMNS if name in found]
    convert = hasattr(frame, "to_pandas")  # polars, pyarrow
    frame = frame.select(wanted).to_pandas() if convert else frame[wanted]
    if len(frame) == 0:
        raise InputError(f"the {place} has no rows; it needs one row per query and model.")
    return frame


def _load_file(path: Path, place: str) -> Any:
    readers = {
        ".csv": ("CSV", _read_csv),
        ".parquet": ("Parquet", _read_parquet),
        ".jsonl": ("JSON Lines", _read_json_lines),
        ".ndjson": ("JSON Lines", _read_json_lines),
        ".json": ("JSON Lines", _read_json_lines),
    }
    if path.suffix.lower() not in readers:
        raise InputError(
            f"the {place} must end in one of {', '.join(readers)}; got {path.suffix!r}. "
            "Rename or convert the file."
        )
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise InputError(f"the {place} {what}; check the path.")
    try:
        empty = path.stat().st_size == 0
        form, reader = readers[path.suffix.lower()]
        frame = None if empty else reader(path)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ArrowInvalid and UnicodeDecodeError are ValueErrors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"cannot read the {place} as {form}: {reason}. "
            "The file may be truncated or of another format; write it again."
        ) from error
    if frame is None:
        raise InputError(f"the {place} is an empty file; write it again.")
    return frame


def _read_csv(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    # All known columns as text: ids such as '007' survive, and numbers are parsed in one place.
    # pyarrow rejects rows with too few fields, which is how a truncated file shows.
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string())),
    )


def _read_parquet(path: Path) -> Any:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        found = file.schema_arrow.names
        wanted = [name for name in COLUMNS if name in found]
        # Without the required columns keep all names, so that the complaint can list them.
        complete = set(REQUIRED) <= set(wanted)
        table = file.read(columns=wanted if complete else None)
    # pandas metadata could hide a column in the index.
    return table.replace_schema_metadata(None)


def _read_json_lines(path: Path) -> Any:
    import pandas as pd

    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        records = json.loads(text)
    else:
        lines = [line for line in text.split("\n") if line.strip()]
        try:
            records = json.loads("[" + ",".join(lines) + "]")  # one call: many times faster
        except ValueError:
            records = []
        if len(records) != len(lines):
            records = [_json_record(line, row) for row, line in enumerate(lines, start=1)]
    for row, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise InputError(
                f"each line of {str(path)!r} must be a JSON object such as "
                f'{{"query": "q1", "model": "a", "confidence": -0.1}}; row {row} is not.'
            )
    # dtype=object: no guessing, so 64-bit integers and ids stay as written.
    return pd.DataFrame(records, dtype=object)


def _json_record(line: str, row: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"row {row}: {error}") from error
