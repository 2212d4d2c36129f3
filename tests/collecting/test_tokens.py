"""Confidences from log-probabilities, against sums by hand."""

import math

import pytest

from cascade_bayes.collecting.tokens import (
    Position,
    add_logs,
    answer_logprob,
    is_special,
    letter_of,
    mean_logprob,
    p_true,
    plain,
)


def at(*tops: tuple[str, float], token: str | None = None) -> Position:
    """Return a place of a reply with the probabilities of its tokens; the first is the reply's."""
    logs = tuple((name, math.log(p)) for name, p in tops)
    return Position(token or logs[0][0], dict(logs)[token or logs[0][0]], logs)


@pytest.mark.parametrize(
    "token", ["Y", " Y", "y", " y", "Yes", " Yes", "yes", "\u0120Yes", "\u2581yes", "Y\n", "YES"]
)
def test_every_way_to_write_yes_counts(token: str) -> None:
    assert p_true([at((token, 0.3), ("N", 0.1), ("maybe", 0.6))]) == pytest.approx(math.log(0.75))


@pytest.mark.parametrize("token", ["Yeah", "True", "Yes.", "Ye", "1", ""])
def test_nothing_else_counts_as_yes(token: str) -> None:
    assert p_true([at(("N", 0.2), (token, 0.7))]) == -math.inf


def test_ways_to_write_yes_and_no_are_added_up() -> None:
    place = at(("Y", 0.3), (" Yes", 0.2), ("y", 0.1), ("N", 0.1), (" no", 0.05), ("The", 0.2))
    assert p_true([place]) == pytest.approx(math.log(0.6 / 0.75))


def test_p_true_knows_its_borders() -> None:
    assert p_true([at(("Y", 0.5), ("The", 0.4))]) == 0.0
    assert p_true([at(("The", 0.5), ("Maybe", 0.4))]) is None
    assert p_true([]) is None
    assert p_true([at((" ", 0.9)), at(("N", 0.8), ("Y", 0.2))]) == pytest.approx(math.log(0.2))
    # the first that is more than blanks counts, whatever follows
    assert p_true([at(("Maybe", 0.9)), at(("Y", 0.9))]) is None


def test_without_other_tokens_what_is_not_yes_is_no() -> None:
    assert p_true([Position("Yes", math.log(0.8))]) == pytest.approx(math.log(0.8))
    assert p_true([Position(" N", math.log(0.8))]) == pytest.approx(math.log(0.2))
    assert p_true([Position("N", 0.0)]) == -math.inf


def test_the_letter_with_and_without_blanks_is_added_up() -> None:
    place = at(("B", 0.5), (" B", 0.2), ("\u0120B", 0.1), ("(B", 0.05), ("b", 0.1), ("A", 0.05))
    assert answer_logprob([place], "B") == pytest.approx(math.log(0.85))


def test_the_last_token_that_is_the_letter_is_the_answer() -> None:
    reply = [
        at(("A", 0.4)),
        at((" dog", 1.0)),
        at(("ANSWER", 1.0)),
        at((":", 1.0)),
        at((" A", 0.7), ("A", 0.1)),
    ]
    assert answer_logprob(reply, "A") == pytest.approx(math.log(0.8))
    assert answer_logprob(reply, "C") is None


def test_the_mean_leaves_ends_of_turns_out() -> None:
    tokens = [
        Position("New", -0.5),
        Position(" York", -0.1),
        Position("<|im_end|>", -9.0),
        Position("</s>", -9),
    ]
    assert mean_logprob(tokens) == pytest.approx(-0.3)
    assert mean_logprob([Position("a", -math.inf)]) == -math.inf
    assert mean_logprob([]) is None
    assert mean_logprob([Position("a", 1e-9)]) == 0.0  # rounding of a server


def test_sums_stay_probabilities() -> None:
    assert add_logs([-1e-12, -30.0]) <= 0.0
    assert add_logs([-1000.0, -1000.0]) == pytest.approx(-1000.0 + math.log(2.0))
    assert add_logs([]) == add_logs([-math.inf]) == -math.inf


def test_tokens_are_read_plainly() -> None:
    assert plain("\u0120\u2581 a b\u010a") == "a b"
    assert is_special("<|eot_id|>")
    assert not is_special("<b>")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        (" B.", "B"),
        ("(C)", "C"),
        ("**A**", "A"),
        ("B) Rome", "B"),
        ("C\nbecause", "C"),
        ("Answer: D", "D"),
        ("ANSWER: A. No: ANSWER: B", "B"),
        ("The answer is **C**", "C"),
        ("A dog barks", None),
        ("E", None),
        ("b", None),
        ("", None),
        ("I think B", None),
    ],
)
def test_letters_of_replies(reply: str, letter: str | None) -> None:
    assert letter_of(reply, "ABCD") == letter
