"""Which column of a table is which: names that match ours but for their spelling, and guesses at the others.

Nothing is guessed silently. A name that differs from ours by capital letters, blanks, underscores or
hyphens is ours; of any other name a message says what it may be and what to type if it is.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence

from cascade_bayes._names import MAX_LENGTH, names_of, suggest
from cascade_bayes.errors import InputError
from cascade_bayes.reading.layout import COLUMNS, REQUIRED, Layout

SYNONYMS: dict[str, tuple[str, ...]] = {
    "query": (
        *(
            "queryid",
            "questionid",
            "qid",
            "promptid",
            "itemid",
            "exampleid",
            "sampleid",
            "taskid",
            "requestid",
        ),
        *("problemid", "docid", "inputid", "rowid", "uid", "uuid", "id", "question", "prompt", "item"),
        *("example", "sample", "task", "request", "problem", "input", "index", "idx"),
    ),
    "model": (
        "modelname",
        "modelid",
        "llm",
        "llmname",
        "engine",
        "deployment",
        "system",
        "agent",
        "endpoint",
    ),
    "confidence": (
        *("conf", "confidencescore", "certainty", "prob", "probability", "ptrue", "p", "logprob", "logprobs"),
        *("meanlogprob", "avglogprob", "sumlogprob", "logp", "nll", "neglogprob", "perplexity", "ppl"),
        *("uncertainty", "score"),
    ),
    "correct": (
        *("iscorrect", "wascorrect", "correctness", "right", "isright", "label", "passed", "pass", "success"),
        *("verdict", "outcome", "exactmatch", "em", "acc", "accuracy"),
    ),
    "cost": ("costusd", "usd", "costperquery", "costpercall", "totalcost", "callcost", "dollars", "price"),
    "tokens_in": ("inputtokens", "prompttokens", "tokensinput", "tokensprompt", "numinputtokens"),
    "tokens_out": ("outputtokens", "completiontokens", "tokensoutput", "tokenscompletion", "numoutputtokens"),
    "latency_ms": ("latencymilliseconds", "durationms", "elapsedms", "timems"),
}
"""What others call our columns, folded, the likeliest first."""

KIND_OF_NAME = {
    **dict.fromkeys(("nll", "neglogprob", "negativelogprob"), "nll"),
    **dict.fromkeys(("ppl", "perplexity"), "perplexity"),
    **dict.fromkeys(("prob", "probability", "ptrue", "p"), "probability"),
    "uncertainty": "uncertainty",
    **dict.fromkeys(("percent", "pct", "confidencepercent", "confidencepct"), "percent"),
}
"""Kinds of confidence that the name of a column tells."""

# Names this close to ours, by difflib's measure, are taken for misspellings.
_CLOSE = 0.8


def fold(name: str) -> str:
    """Return what two spellings of a name share: capital letters, blanks, underscores, hyphens do not count.

    Examples
    --------
    >>> fold(" Tokens In") == fold("tokens_in") == fold("TOKENS-IN")
    True
    """
    return re.sub(r"[\s_\-]+", "", name.replace("\ufeff", "")).casefold()


def resolve(found: Sequence[str], layout: Layout, place: str) -> dict[str, str]:
    """Return the table's name of each of our columns that it has.

    Parameters
    ----------
    found
        Names of the table's columns.
    layout
        Whose ``columns`` say what some of them are.
    place
        How messages name the table.

    Raises
    ------
    InputError
        If a column that the layout names is not there, or two columns are spelled like the same one of ours.
    """
    named = dict(layout.columns or {})
    result: dict[str, str] = {}
    for ours, theirs in named.items():
        match = [theirs] if theirs in found else [name for name in found if fold(name) == fold(theirs)]
        if not match:
            raise InputError(
                f"the {place} has no column {theirs!r}, which columns (--columns) names as {ours!r}. "
                f"{suggest(theirs, list(found))}"
            )
        result[ours] = match[0]
    taken = set(result.values())
    for ours in COLUMNS:
        if ours in result:
            continue
        free = [name for name in found if name not in taken]
        alike = list(dict.fromkeys(name for name in free if fold(name) == fold(ours)))
        if ours in free:
            result[ours] = ours
        elif len(alike) == 1:
            result[ours] = alike[0]
        elif alike:
            raise InputError(
                f"the {place} has more than one column for {ours!r}: {names_of(alike)}. Say which it is: "
                f"{typed({ours: alike[0]})}."
            )
    return result


def guesses(found: Sequence[str], resolved: Mapping[str, str]) -> dict[str, str]:
    """Return for our columns that a table lacks which of its own columns they may be."""
    usable = [name for name in found if name.isprintable() and len(name) <= MAX_LENGTH]  # to be typed
    free = {fold(name): name for name in reversed(usable) if name not in resolved.values()}
    result: dict[str, str] = {}
    for ours in COLUMNS:
        if ours in resolved:
            continue
        match = next((name for name in SYNONYMS[ours] if name in free), None)
        if match is None and ours in REQUIRED:
            close = difflib.get_close_matches(fold(ours), free, n=1, cutoff=_CLOSE)
            within = [name for name in free if len(ours) > 4 and fold(ours) in name]
            match = next(iter([*close, *within]), None)
        if match is not None:
            result[ours] = free.pop(match)
    return result


def typed(columns: Mapping[str, str], kind: str | None = None, *, wide: bool = False) -> str:
    """Return what to pass so that columns are read: in Python, and in brackets on the command line.

    Parameters
    ----------
    columns
        The table's names by ours.
    kind
        The kind of confidence to pass besides; None for none.
    wide
        Whether the table is to be read as wide.

    Examples
    --------
    >>> typed({"query": "id"})
    'columns={"query": "id"} (--columns query=id)'
    """
    python, line = [], []
    if wide:
        python.append("wide=True")
        line.append("--wide")
    if columns:
        pairs = ", ".join(f'"{ours}": {_quoted(theirs)}' for ours, theirs in columns.items())
        python.append(f"columns={{{pairs}}}")
        line.append(
            f"--columns {shlex.quote(','.join(f'{ours}={theirs}' for ours, theirs in columns.items()))}"
        )
    if kind is not None:
        python.append(f'confidence="{kind}"')
        line.append(f"--confidence {kind}")
    return f"{', '.join(python)} ({' '.join(line)})"


def _quoted(text: str) -> str:
    shown = repr(text)
    return f'"{shown[1:-1]}"' if '"' not in shown and shown.startswith("'") else shown


def complain(
    found: Sequence[str], resolved: Mapping[str, str], layout: Layout, place: str, kind: str
) -> InputError:
    """Return the error of a table that lacks columns: all of them, what they may be, and what to pass."""
    missing = [name for name in REQUIRED if name not in resolved]
    guessed = guesses(found, resolved)
    listed = ", ".join(map(repr, missing[:-1])) + (" or " if missing[1:] else "") + repr(missing[-1])
    said = [f"the {place} has no column {listed}; it has {names_of(found)}."]
    unknown = [name for name in missing if name not in guessed]
    if guessed:
        meant = [f"{theirs!r} for {ours!r}" for ours, theirs in guessed.items()]
        said.append(f"Did you mean {', '.join(meant)}?")
    if unknown:
        each = "it" if len(unknown) == 1 else "them"
        said.append(f"Nothing looks like {names_of(unknown)}: add {each}, or put a column's name for NAME.")
    told = KIND_OF_NAME.get(fold(guessed.get("confidence", "")))
    columns = dict(layout.columns or {}) | guessed | dict.fromkeys(unknown, "NAME")
    said.append(f"Pass {typed(columns, told if told != kind else None)}.")
    has = resolved.keys() | guessed.keys()
    if (
        "cost" not in has
        and not {"tokens_in", "tokens_out"} <= has
        and layout.costs
        and not layout.cost_per_call
    ):
        said.append(
            "There are no costs either: say what a call costs, cost_per_call={'MODEL': 0.0002} "
            "(--cost-per-call MODEL=0.0002), or do without, costs=False (--no-costs)."
        )
    return InputError(" ".join(said))
