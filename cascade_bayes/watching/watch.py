"""Whether anything has changed since a fit: the log of a running cascade against the fitted table.

Every figure of every model is bet on by a gambler of its own (`cascade_bayes.watching.martingale`). The level
is split evenly among them: with :math:`m` gamblers the alarm is raised when one of them has :math:`m / level`
times the first stake. However often one looks, a log of a world that has not changed ever raises an alarm
with a probability of at most the level, whatever the gamblers have to do with each other. (Their mean would
be no martingale: each of them sees values of its own alone.)

The fitted table is taken as drawn for itself. The thresholds were chosen on it, which for the queries that
come to later models is no more than nearly true; simulation (``benchmarks/watching.py``) finds no harm in
it.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_bayes._files import read_json, write_json
from cascade_bayes._output import Output
from cascade_bayes._shown import Card, number, shown
from cascade_bayes.errors import InputError
from cascade_bayes.policy.policy import Policy
from cascade_bayes.serving.confidences import reader_of
from cascade_bayes.watching.martingale import MAX_BINS
from cascade_bayes.watching.streams import Stream, make_streams

if TYPE_CHECKING:
    from cascade_bayes.inference.posterior import Posterior

SCHEMA = "cascade_bayes.watch"
"""What state files call themselves."""

REMEDY = "Remove it or name another state file: the log is then read from its beginning."

MAX_HISTORY = 400
"""Points of the picture that a state keeps; of more every second one is left out."""

ADVICE = {
    "confidence": "Label some dozens of new queries and fit again: thresholds are cuts of this scale.",
    "deferral": "Look at its confidences, label some dozens of new queries and fit again.",
    "cost": "Run `cascade-bayes tune` on a fit with the new costs.",
    "latency": "If latency has a price, fit again with the new log; otherwise ask the provider.",
    "accuracy": "Label more new queries and fit again: the predicted error no longer holds.",
}
"""What to do about each figure."""


def _card(found: Watched) -> Card:
    rows = [
        (row["model"], row["figure"], str(row["num_new"]), f"10^{number(row['log10_evidence'])}")
        for row in sorted(found.records(), key=lambda row: -row["log10_evidence"])
    ]
    columns = ("model", "figure", "new values", "evidence of a change")
    return Card(f"Watch of {found.num_queries} queries", columns, rows, (found.sentence(),))


@shown(_card)
@dataclass(frozen=True, eq=False)
class Watched:
    """What a log says of a change since the fit.

    Attributes
    ----------
    level
        Probability, at most, of ever raising an alarm while nothing changes.
    num_queries
        Queries read so far.
    streams
        Each figure of each model, with its capital.
    history
        For the picture: queries so far, and the natural logarithm of each stream's capital, a list a point.
    """

    level: float
    num_queries: int
    streams: tuple[Stream, ...]
    history: list[list[float]]

    @property
    def needed(self) -> float:
        """Natural logarithm of the capital at which a stream raises the alarm."""
        return math.log(len(self.streams) / self.level)

    @property
    def alarms(self) -> tuple[Stream, ...]:
        """The streams that have raised the alarm, the surest first."""
        raised = [stream for stream in self.streams if stream.highest >= self.needed]
        return tuple(sorted(raised, key=lambda stream: -stream.highest))

    @property
    def changed(self) -> bool:
        """Whether the alarm was raised."""
        return bool(self.alarms)

    def records(self) -> list[dict[str, Any]]:
        """Return a dictionary a stream, JSON-able."""
        return [
            {
                "model": stream.model,
                "figure": stream.figure,
                "num_new": stream.num_new,
                "log10_evidence": stream.highest / math.log(10),
                "log10_needed": self.needed / math.log(10),
                "alarm": stream.highest >= self.needed,
                "since_query": int(stream.since_query[stream.best]),
            }
            for stream in self.streams
        ]

    def sentence(self) -> str:
        """Say what changed, since about when, and what to do."""
        if not self.changed:
            return (
                f"Nothing is seen to have changed since the fit, in {self.num_queries} queries and "
                f"{len(self.streams)} figures."
            )
        said = []
        for stream in self.alarms:
            began = int(stream.since_query[stream.best]) + 1
            said.append(
                f"{_what(stream)} since about query {began} of {self.num_queries}. {ADVICE[stream.figure]}"
            )
        return " ".join(said)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-able values."""
        return {
            "level": self.level,
            "num_queries": self.num_queries,
            "alarm": self.changed,
            "sentence": self.sentence(),
            "streams": self.records(),
        }


def _what(stream: Stream) -> str:
    """Say in words what changed of a stream."""
    best = stream.best
    count = max(stream.num_new - stream.since[best], 1)
    share, mean, was = stream.after_rank[best] / count, stream.after[best] / count, stream.table_mean
    name = stream.model
    if stream.figure == "deferral":
        return f"{name} defers {100 * mean:.3g} % of its queries, {100 * was:.3g} % in the fitted table,"
    if stream.figure == "accuracy":
        return (
            f"{name} is right on {100 * mean:.3g} % of its labelled answers, {100 * was:.3g} % when fitted,"
        )
    if stream.figure in ("cost", "latency"):
        unit = "" if stream.figure == "cost" else " ms"
        return (
            f"The mean {stream.figure} of a call of {name} is {mean:.4g}{unit}, {was:.4g}{unit} when fitted,"
        )
    way = "higher than" if share > 0.53 else "lower than" if share < 0.47 else "spread otherwise than"
    return f"The confidences of {name} are {way} in the fitted table (mean rank {share:.2f}, not 0.50)"


def watch(
    posterior: Posterior,
    policy: Policy,
    log: str | os.PathLike[str],
    *,
    state: str | os.PathLike[str] | Output | None = None,
    level: float = 0.01,
) -> Watched:
    """Say whether anything has changed since the fit, from the log of the running cascade.

    Watched are, of each model, its confidences, how often it defers, the costs and latencies of its calls
    and, where the log has labels, how often it is right. Rows with the policy's own mean cost say nothing of
    costs, and calls that failed nothing at all.

    Parameters
    ----------
    posterior
        The fit, whose table new queries are compared with.
    policy
        The policy that wrote the log.
    log
        A log of `Router`, or JSON lines with the entries ``query``, ``model``, ``confidence`` and, if known,
        ``cost``, ``latency_ms`` and ``correct``.
    state
        File in which is kept how far the log has been read; it is made where there is none. None to read the
        whole log, and keep nothing.
    level
        Probability, at most, with which an alarm is ever raised while nothing changes, however often one
        looks.

    Raises
    ------
    InputError
        If the log or the state cannot be read, or the state is of another fit, policy or level.

    Examples
    --------
    ``watch(posterior, policy, "decisions.jsonl", state="watch.json").sentence()``
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1; got {level!r}. Give for example 0.01.")
    streams = make_streams(posterior.data.select(list(policy.models)), policy)
    if not streams:
        raise InputError(
            "the fitted table has too few values to compare with: fit one of ten queries or more."
        )
    identity = {
        "fit_digest": posterior.digest(),
        "models": list(policy.models),
        "thresholds": policy.to_dict()["thresholds"],
        "abstain_thresholds": policy.to_dict()["abstain_thresholds"],
        "level": level,
        "bins": MAX_BINS,
    }
    progress: dict[str, Any] = {"offset": 0, "num_queries": 0, "last_query": None, "history": []}
    path = None if state is None else state.path if isinstance(state, Output) else Path(state)
    if path is not None and path.exists() and path.stat().st_size:
        kept = read_json(path, "watch", [SCHEMA], REMEDY)
        if kept.get("identity") != identity:
            raise InputError(
                f"{path} is the state of another fit, policy or level. Name another state file, or remove it."
            )
        try:
            progress = {name: kept["progress"][name] for name in progress}
            for stream in streams.values():
                stream.restore(kept["streams"][f"{stream.model}\n{stream.figure}"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} was changed after it was written. {REMEDY}") from error
    found = _Reading(policy, streams, math.log(len(streams) / level), progress)
    found.read(Path(log))
    if state is not None:
        each = {f"{stream.model}\n{stream.figure}": stream.to_dict() for stream in streams.values()}
        record = {"schema": SCHEMA, "identity": identity, "progress": progress, "streams": each}
        write_json(state, record)
    return Watched(level, progress["num_queries"], tuple(streams.values()), progress["history"])


class _Reading:
    """Reads the lines of a log that are new, and hands their values to the streams.

    Parameters
    ----------
    policy
        The policy that wrote the log.
    streams
        By model and figure.
    needed
        Logarithm of the capital at which a stream raises the alarm.
    progress
        How far the log has been read, which is brought up to date.
    """

    def __init__(
        self, policy: Policy, streams: dict[tuple[str, str], Stream], needed: float, progress: dict[str, Any]
    ) -> None:
        self.streams, self.needed, self.progress = streams, needed, progress
        self.read_confidence = reader_of(policy)
        self.high = dict(zip(policy.models, [*policy.thresholds.tolist(), -math.inf], strict=True))
        low = policy.abstain_thresholds
        lows = [-math.inf] * len(policy.models) if low is None else low.tolist()
        self.low = dict(zip(policy.models, lows, strict=True))
        self.cost = dict(zip(policy.models, policy.call_cost.tolist(), strict=True))

    def read(self, path: Path) -> None:
        """Read all whole lines behind those that have been read."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self.progress["offset"]:
                    raise InputError(
                        f"the log {str(path)!r} is shorter than what was read of it: it is another file. "
                        "Name another state file."
                    )
                file.seek(self.progress["offset"])
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # it is being written
                    self._take(line, path)
                    self.progress["offset"] += len(line)
        except OSError as error:
            raise InputError(
                f"the log {str(path)!r} cannot be read: {error.strerror}. Check the path."
            ) from error

    def _take(self, line: bytes, path: Path) -> None:
        if not line.strip():
            return
        try:
            row = json.loads(line)
            query, model = str(row["query"]), row["model"]
        except (ValueError, KeyError, TypeError) as error:
            place = f"at byte {self.progress['offset']} of {str(path)!r}"
            raise InputError(
                f"the line {place} must be a JSON object with the entries 'query' and 'model'. Remove it."
            ) from error
        if model not in self.cost:
            raise InputError(
                f"the log {str(path)!r} has the model {model!r}, which the policy does not ask. Give the "
                "policy that wrote the log."
            )
        if query != self.progress["last_query"]:
            self.progress["last_query"] = query
            self.progress["num_queries"] += 1
            self._remember()
        for figure, value in self._values(row, model).items():
            stream = self.streams.get((model, figure))
            if stream is not None and value is not None:
                alarmed = stream.highest >= self.needed
                stream.add(float(value), query, self.progress["num_queries"] - 1, alarmed=alarmed)

    def _values(self, row: dict[str, Any], model: str) -> dict[str, Any]:
        """Return what one row says of each figure; None of what it does not know."""
        given = row.get("confidence")
        if isinstance(given, str) and given.lstrip("-") in ("inf", "Infinity"):
            given = float(given)
        confidence = self.read_confidence(given)[0]
        values: dict[str, Any] = {"confidence": confidence, "accuracy": row.get("correct")}
        if confidence is not None:
            values["deferral"] = self.low[model] <= confidence < self.high[model]
        if row.get("decision") != "fault":
            cost = row.get("cost")
            values["cost"] = None if cost == self.cost[model] else cost
            values["latency"] = row.get("latency_ms")
        return values

    def _remember(self) -> None:
        """Keep a point of the picture."""
        history = self.progress["history"]
        every = 1 if len(history) < 2 else int(history[1][0] - history[0][0])
        if (self.progress["num_queries"] - 1) % every:
            return
        capitals = [round(stream.log_capital, 3) for stream in self.streams.values()]
        history.append([self.progress["num_queries"] - 1, *capitals])
        if len(history) > MAX_HISTORY:
            del history[1::2]
