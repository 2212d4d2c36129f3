"""What models are told: the texts around a question, and how many calls and tokens they take at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cascade_bayes.collecting.questions import LETTERS, Question

CHOICES = (
    "Answer the multiple-choice question. Reply with one letter alone, without any other word: {letters}.\n\n"
    "{question}\n\nAnswer:"
)

TRUE_OR_NOT = (
    "Question: {question}\n\nProposed answer: {answer}\n\nIs the proposed answer true? Reply with one letter "
    "alone: Y if it is true, N if it is not."
)

INSISTENT = "\nWrite nothing but the letter Y or the letter N."

STATED = (
    "Question: {question}\n\nProposed answer: {answer}\n\nHow sure are you that the proposed answer is right?"
    ' Reply in JSON with a whole number, 0 (surely wrong) to 100 (surely right): {{"confidence": NUMBER}}.'
)


def question_text(text: str, options: Sequence[str]) -> str:
    """Return a question with its options under it, each behind its letter.

    Examples
    --------
    >>> print(question_text("Which is even?", ["3", "4"]))
    Which is even?
    <BLANKLINE>
    A) 3
    B) 4
    """
    if not options:
        return text
    lines = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{text}\n\n{lines}"


class Most(NamedTuple):
    """The most that one further call may take.

    Attributes
    ----------
    text_bytes
        Bytes of its prompt.
    messages
        Messages of its prompt.
    tokens_out
        Tokens of all that is answered.
    """

    text_bytes: int
    messages: int
    tokens_out: int


def most_calls(
    question: Question, way: str, answer_tokens: int, samples: int, system: str | None
) -> list[Most]:
    """Return the most that each call for one question and one model may take, without that of a grader.

    Parameters
    ----------
    question
        The question.
    way
        Name of the confidence.
    answer_tokens
        Most tokens of an answer.
    samples
        How many answers vote.
    system
        What the model is told before every question.
    """
    text = question_text(question.input, question.choices)
    asked = CHOICES.format(question=text, letters=", ".join(question.letters)) if question.choices else text
    start = len(asked.encode()) + len((system or "").encode())
    messages = 2 if system else 1
    calls = [Most(start, messages, answer_tokens)]
    answer_bytes = 8 * answer_tokens  # twice what a token of English has
    if way == "p_true":
        shown = len(TRUE_OR_NOT.encode()) + len(text.encode()) + answer_bytes
        calls += [Most(shown, 1, 8), Most(shown + len(INSISTENT), 1, 8)]
    elif way == "verbal":
        calls += [Most(len(STATED.encode()) + len(text.encode()) + answer_bytes, 1, 64)]
    elif way == "votes":  # a provider may give one answer a call
        calls += [Most(start, messages, answer_tokens)] * samples
    return calls
