"""Log-probabilities of tokens to one confidence per answer: the arithmetic, without any provider.

A provider that returns log-probabilities says for each token of a reply how probable it was, and which other
tokens were the most probable in its place. The same word comes as several tokens, with and without a blank
before it: their probabilities are those of different events and are added up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

BLANKS = {"\u0120": " ", "\u010a": "\n", "\u2581": " "}
"""What some servers write for a blank or a line break inside a token: byte-level BPE and SentencePiece."""

_SPECIAL = re.compile(r"<\|[^|]*\|>|</?s>|<(?:eos|bos|pad|end_of_turn)>")
_AROUND = "()[]*.:,\"'"


class Position(NamedTuple):
    """One token of a reply, and what else could have stood in its place.

    Attributes
    ----------
    token
        The token as the server writes it.
    logprob
        Natural logarithm of its probability, at most 0.
    top
        The most probable tokens at this place with their log-probabilities, the token itself mostly among
        them; empty if the server does not tell them.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


def plain(token: str) -> str:
    r"""Return a token without blanks around it, however the server writes blanks.

    Examples
    --------
    >>> [plain(token) for token in ("Yes", " Yes", "\u0120Yes", "\u2581Yes", "Yes\n")]
    ['Yes', 'Yes', 'Yes', 'Yes', 'Yes']
    """
    for written, blank in BLANKS.items():
        token = token.replace(written, blank)
    return token.strip()


def is_special(token: str) -> bool:
    """Whether a token is no text but the mark at the end of a turn, such as ``<|eot_id|>``."""
    return bool(_SPECIAL.fullmatch(token.strip()))


def add_logs(logs: Sequence[float]) -> float:
    """Return the logarithm of the sum of probabilities, given their logarithms; at most 0, -inf for none."""
    highest = max(logs, default=-math.inf)
    if highest == -math.inf:
        return -math.inf
    return min(0.0, highest + math.log(math.fsum(math.exp(log - highest) for log in logs)))


def _alternatives(position: Position) -> dict[str, float]:
    """Return the tokens that could stand at a place with their log-probabilities, each once."""
    return {position.token: position.logprob, **dict(position.top)}


def _sum_of(position: Position, belongs: Callable[[str], bool]) -> float:
    return add_logs([log for token, log in _alternatives(position).items() if belongs(plain(token))])


def answer_logprob(positions: Sequence[Position], letter: str) -> float | None:
    """Return the log-probability of the letter that a model answered to a multiple-choice question.

    Parameters
    ----------
    positions
        The tokens of the reply.
    letter
        The letter that was read from the reply. Blanks, brackets and full stops around it in a token make no
        difference; capital letters do, because ``a`` is a word. The last token that is the letter is the
        answer's, as in ``ANSWER: B``.

    Returns
    -------
    float or None
        Sum of the probabilities of all tokens that write the letter in this place, as a natural logarithm;
        None if no token is the letter.

    Examples
    --------
    >>> import math
    >>> top = (("B", math.log(0.5)), (" B", math.log(0.25)), ("A", math.log(0.2)))
    >>> math.exp(answer_logprob([Position("B", math.log(0.5), top)], "B"))
    0.75
    """
    for position in reversed(positions):
        if plain(position.token).strip(_AROUND) == letter:
            return _sum_of(position, lambda token: token.strip(_AROUND) == letter)
    return None


def mean_logprob(positions: Sequence[Position]) -> float | None:
    """Return the mean log-probability of the tokens of a reply, marks of its end left out.

    Returns
    -------
    float or None
        None if there are no tokens.

    Examples
    --------
    >>> mean_logprob([Position("New", -0.5), Position(" York", -0.1), Position("<|eot_id|>", -3.0)])
    -0.3
    """
    logs = [position.logprob for position in positions if not is_special(position.token)]
    return min(0.0, math.fsum(logs) / len(logs)) if logs else None


def p_true(positions: Sequence[Position]) -> float | None:
    """Return the log-probability of "Y" against "N" in a reply to the question whether an answer is true.

    The first token counts that is more than blanks. "Y", "y", "Yes" and "yes", with and without blanks, say
    yes; "N", "n", "No" and "no" say no; nothing else says either.

    Parameters
    ----------
    positions
        The tokens of the reply.

    Returns
    -------
    float or None
        ``log(P(Y) / (P(Y) + P(N)))``: 0 if only yes is among the tokens that the server tells, -inf if only
        no is, None if neither. Where the server tells no other tokens than that of the reply, whatever is not
        yes counts as no, and the other way round.

    Examples
    --------
    >>> import math
    >>> top = (("Y", math.log(0.4)), (" Yes", math.log(0.2)), ("N", math.log(0.2)), ("Maybe", math.log(0.2)))
    >>> round(math.exp(p_true([Position("Y", math.log(0.4), top)])), 12)
    0.75
    """
    position = next((p for p in positions if plain(p.token) and not is_special(p.token)), None)
    if position is None:
        return None
    yes = _sum_of(position, lambda token: token.lower() in ("y", "yes"))
    no = _sum_of(position, lambda token: token.lower() in ("n", "no"))
    if yes == no == -math.inf:
        return None
    if position.top:
        return yes - add_logs([yes, no]) if yes > -math.inf else -math.inf
    if yes > -math.inf:
        return yes
    return math.log(-math.expm1(no)) if no < 0 else -math.inf


def letter_of(reply: str, letters: str) -> str | None:
    r"""Return which option a reply to a multiple-choice question names, None if it names none.

    A reply names an option by the letter alone, by the letter before anything that sets it off, as in ``B)
    Paris`` or ``B: Paris``, or by ``ANSWER: B``, of which the last counts.

    Examples
    --------
    >>> [letter_of(reply, "ABC") for reply in (" B", "(B)", "B) Paris", "I think.\nANSWER: C", "A dog", "D")]
    ['B', 'B', 'B', 'C', None, None]
    """
    told = re.findall(rf"(?i:answer(?: is)?)\W{{1,5}}([{letters}])\b", reply)
    if told:
        return str(told[-1])
    found = re.match(rf"[\s(\[*\"']*([{letters}])(?:\s*$|[)\]*.:,\"'\n])", reply)
    return found[1] if found else None
