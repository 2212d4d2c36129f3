"""What the calls of a collection cost: a journal that survives being killed, and a limit that is kept.

Inspect keeps the answers, in files of its cache; the journal has one line a finished call: which question,
model and step it was for, its tokens and its seconds. A call that stands in it is paid, so that it is neither
counted twice nor asked for again if the model refused, which Inspect's cache does not keep.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cascade_bayes.errors import InputError

Key = tuple[str, str, str]
"""Model, question and step of a call."""

BYTES_PER_TOKEN = 2
"""Least bytes of UTF-8 that a token of a prompt stands for, in the mean of any usual text: English has about
four a token, code three, Chinese three. Half of that of English makes the estimate an upper one."""

TOKENS_PER_MESSAGE = 32
"""Most tokens that a chat template puts around a message."""


class LimitReachedError(Exception):
    """A call was not made, because with it the collection might cost more than it may."""


class Call(NamedTuple):
    """One finished call.

    Attributes
    ----------
    tokens_in, tokens_out
        Its tokens, those that the provider had cached among them.
    seconds
        How long the attempt took that succeeded, without the waits before it.
    refused
        Whether the model or its provider declined to answer.
    """

    tokens_in: int
    tokens_out: int
    seconds: float
    refused: bool = False


class Ledger:
    """Calls that are paid and those under way, against a limit of US dollars.

    Parameters
    ----------
    path
        Its file, which is read if it exists.
    prices
        US dollars of a million tokens in and out, by model; None if nobody gave any.
    max_cost
        Most US dollars that all calls may cost, those of earlier runs included; None for no limit.
    """

    def __init__(
        self, path: Path, prices: Mapping[str, tuple[float, float]] | None, max_cost: float | None
    ) -> None:
        self.prices, self.max_cost = prices, max_cost
        self.calls: dict[Key, Call] = {}
        self.reserved = 0.0
        self._file = path.open("a+b")
        try:
            self._read(path)
        except BaseException:
            self._file.close()
            raise
        self.spent = sum(self._dollars(key[0], call) for key, call in self.calls.items())

    def _read(self, path: Path) -> None:
        self._file.seek(0)
        content = self._file.read()
        if content and not content.endswith(b"\n"):
            # A process was killed while it wrote: the next line begins after what it left.
            self._file.write(b"\n")
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                record = json.loads(line)
                key = (str(record["model"]), str(record["query"]), str(record["step"]))
                call = Call(
                    int(record["in"]), int(record["out"]), float(record["s"]), bool(record["refused"])
                )
            except (ValueError, KeyError, TypeError) as error:
                if number > content.count(b"\n") or not line.endswith(b"}"):
                    continue  # the line that was being written
                raise InputError(
                    f"line {number} of {path} is no finished call. Remove the folder {path.parent} to ask "
                    "everything again, or take it from a copy."
                ) from error
            self.calls[key] = call

    def _dollars(self, model: str, call: Call) -> float:
        if self.prices is None:
            return 0.0
        price = self.prices.get(model, (0.0, 0.0))
        return (call.tokens_in * price[0] + call.tokens_out * price[1]) / 1e6

    def bound(self, model: str, text_bytes: int, messages: int, tokens_out: int) -> float:
        """Return the most US dollars that a call can cost.

        Parameters
        ----------
        model
            Name of the model.
        text_bytes
            Bytes of its prompt.
        messages
            How many messages the prompt has.
        tokens_out
            Most tokens of its answers together.
        """
        tokens_in = -(-text_bytes // BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * messages
        return self._dollars(model, Call(tokens_in, tokens_out, 0.0))

    async def reserve(self, key: Key, most: float) -> float:
        """Set dollars aside for a call, and return how many; those of a call that is paid are none.

        Raises
        ------
        LimitReachedError
            If the limit does not allow the call, whatever the calls under way turn out to cost.
        """
        if key in self.calls:
            return 0.0
        if self.max_cost is not None:
            import anyio

            while self.spent + self.reserved + most > self.max_cost:
                if self.spent + most > self.max_cost or self.reserved <= 0.0:
                    raise LimitReachedError
                await anyio.sleep(0.01)  # calls under way may cost less than was set aside for them
        self.reserved += most
        return most

    def settle(self, key: Key, reserved: float, call: Call | None) -> None:
        """Enter what became of a call: a finished one into the journal; None gives its dollars back."""
        self.reserved = max(0.0, self.reserved - reserved)
        if call is None or key in self.calls:
            return
        self.calls[key] = call
        self.spent += self._dollars(key[0], call)
        model, query, step = key
        record: dict[str, Any] = {"model": model, "query": query, "step": step, "in": call.tokens_in}
        record |= {"out": call.tokens_out, "s": call.seconds, "refused": call.refused}
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()  # in the hands of the system: a killed process loses nothing
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the journal."""
        self._file.close()
