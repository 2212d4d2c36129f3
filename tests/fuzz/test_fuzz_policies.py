"""Policy and frontier files, whole and spoiled: each is taken for what it is, or refused in a sentence."""

import hashlib
import json
import math
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from fuzzing import examples, fuzz
from hypothesis import strategies as st

from cascade_bayes import ABSTAIN, InputError, Policy, Terms, load_policies
from cascade_bayes._units import DEFERRALS, DOLLARS, Units
from cascade_bayes.policy.expected import Prediction
from cascade_bayes.policy.points import PricedPolicies
from cascade_bayes.verdict import FitVerdict

LOWEST = -1.7976931348623157e308
RANGE = {"logprob": (LOWEST, 0.0), "probability": (0.0, 1.0), "score": (LOWEST, -LOWEST)}


LEVELS = {
    kind: st.one_of(st.floats(*ends), st.sampled_from([-math.inf, math.inf, max(LOWEST, ends[0]), ends[1]]))
    for kind, ends in RANGE.items()
}
NAMES = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=3), min_size=4, max_size=4, unique=True
)
VERDICTS = st.sampled_from([None, FitVerdict(True, "Converged."), FitVerdict(False, "Not to be trusted.")])
SEEDS = st.integers(0, 2**32)


@st.composite
def policies(draw: st.DrawFn, price: float | None = None, common: dict[str, Any] | None = None) -> Policy:
    """Policies that can be, of one to four models; what has no say in decisions is drawn by chance."""
    common = draw(contexts()) if common is None else common
    terms, level, chance = common["terms"], LEVELS[common["kind"]], Random(draw(SEEDS))
    count, num_draws = draw(st.integers(1, 4)), chance.randrange(3)
    thresholds = [draw(level) for _ in range(count - 1)]
    abstain = None
    if terms.abstain_price is not None:
        lowest = [draw(level) for _ in range(count)]
        if terms.abstain == "final":
            lowest[:-1] = [-math.inf] * (count - 1)
        abstain = np.array([min(pair) for pair in zip(lowest, [*thresholds, math.inf], strict=True)])
    figures = {}
    for name in (
        "error",
        "cost",
        "expense",
        *["abstain"] * (abstain is not None),
        *["latency"] * chance.randrange(2),
    ):
        scale = 1 if name in ("error", "abstain") else 10 ** chance.uniform(-9, 6)
        low, mean, high = sorted(scale * chance.choice([0, 1, chance.random()]) for _ in range(3))
        figures |= {f"{name}_q05": low, name: mean, f"{name}_q95": high}
    price = 10 ** chance.uniform(-9, 9) if price is None else price
    asked = chance.choice(["error_price", "budget", "target_error"])
    question = {asked: price if asked == "error_price" else chance.uniform(0.001, 0.999)}
    if asked != "error_price":
        question["probability"] = chance.uniform(0.001, 0.999)
    reach = sorted((chance.choice([0, 1, chance.random()]) for _ in thresholds), reverse=True)
    return Policy(
        models=tuple(draw(NAMES)[:count]),
        thresholds=np.array(thresholds),
        draw_thresholds=np.array([thresholds] * num_draws, float).reshape(num_draws, count - 1),
        error_price=price,
        question=question,
        prediction=Prediction(reach_prob=(1.0, *reach), **figures),
        call_cost=np.array([chance.choice([0, chance.random()]) for _ in range(count)]),
        abstain_thresholds=abstain,
        draw_abstain_thresholds=None
        if abstain is None
        else np.array([abstain] * num_draws).reshape(-1, count),
        **common,
    )


@st.composite
def contexts(draw: st.DrawFn) -> dict[str, Any]:
    """What policies of one fit share."""
    chance = Random(draw(SEEDS))
    terms = Terms(
        latency_price=chance.choice([0.0, chance.random()]),
        abstain_price=chance.choice([None, 0.0, chance.random()]),
        abstain=chance.choice(["early", "final"]),
        constant_costs=chance.choice([True, False]),
    )
    kind = draw(st.sampled_from(list(RANGE)))
    units = Units(chance.choice([DOLLARS, DEFERRALS]))
    verdict = draw(VERDICTS)
    digest = "0123456789abcdef" * 4
    return {"kind": kind, "fit_digest": digest, "terms": terms, "fit_verdict": verdict, "units": units}


class Made(PricedPolicies):
    """A frontier of policies that are there."""

    def policy(self, index: int) -> Policy:
        return self.context["policies"][index]

    def _policy_at(self, error_price: float) -> Policy:
        raise NotImplementedError

    _constrained = _draws = _policy_at  # type: ignore[assignment]


PRICES = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=2)


@st.composite
def frontiers(draw: st.DrawFn) -> list[Policy]:
    common, prices = draw(contexts()), sorted(draw(PRICES))
    return [draw(policies(price, common)) for price in prices]


# Spoiling files

ODD = (
    *(None, True, False, "", "x", "inf", "-inf", "lowest", "nan", "score", "early", "\ud800", "0.5", "a\nb"),
    *(-1, 0, 1, 2, 3, 10**25, 10**400, -0.5, 0.3, 1.5, 5e-324, 1e308, math.nan, math.inf, -math.inf),
    *([], {}, [[]], [0.5], ["a"], ["a", "a"], [0.1, 0.2, 0.3], [True], [math.nan], [[0.5, 0.1]], {"a": 1}),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every entry of a record: what holds it, and its key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *places(value[key])]]


def sign(record: dict[str, Any]) -> None:
    """Store the digest of a record's contents."""

    def spelled(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: spelled(each, name) for name, each in value.items() if name != "content_digest"}
        if isinstance(value, list):
            return [spelled(each) for each in value]
        return (
            float(value) if type(value) is int and key != "schema_version" and abs(value) < 1e300 else value
        )

    text = json.dumps(spelled(record), sort_keys=True, separators=(",", ":"))
    record["content_digest"] = hashlib.sha256(text.encode()).hexdigest()


class Case(NamedTuple):
    """Bytes of a file, and the policies that it holds if it is known to hold any."""

    content: bytes
    holds: list[Policy] | None
    verdicts: bool
    seed: int


@st.composite
def spoiled(draw: st.DrawFn, record: dict[str, Any]) -> bytes:
    """One entry of a record replaced, removed, added or moved, its digest made to fit or not."""
    record = deepcopy(record)
    every = places(record)
    for _ in range(draw(st.integers(1, 2))):
        holder, key = every[draw(st.integers(0, len(every) - 1))]
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "twice", "other"]))
        if (key not in holder) if isinstance(holder, dict) else key >= len(holder):
            continue
        if how == "replace":
            holder[key] = draw(st.sampled_from(ODD))
        elif how == "remove":
            del holder[key]
        elif how == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["extra", "latency", "", "\ud800"]))] = draw(st.sampled_from(ODD))
        elif how == "twice" and isinstance(holder, list):
            holder.insert(key, deepcopy(holder[key]))
        else:
            other, at = every[draw(st.integers(0, len(every) - 1))]
            if (at in other) if isinstance(other, dict) else at < len(other):
                holder[key] = deepcopy(other[at])
    if draw(st.integers(0, 4)):
        sign(record)
    return json.dumps(record).encode()


@st.composite
def cases(draw: st.DrawFn, made: st.SearchStrategy[Any], write: Any) -> Case:
    policy_or_policies = draw(made)
    whole: bytes = write(policy_or_policies)
    holds = policy_or_policies if isinstance(policy_or_policies, list) else [policy_or_policies]
    seed = draw(SEEDS)
    record = json.loads(whole)
    how = draw(st.sampled_from(["whole", "spelled", "old", *["spoiled"] * 6, "bytes"]))
    if how == "whole":
        return Case(whole, holds, True, seed)
    if how == "spelled":  # by other programs
        text = json.dumps(record, sort_keys=True, ensure_ascii=False, indent=draw(st.sampled_from([None, 3])))
        return Case(draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode(), holds, True, seed)
    if how == "old":
        return Case(json.dumps(aged(record)).encode(), holds, False, seed)
    if how == "spoiled":
        return Case(draw(spoiled(record)), None, False, seed)
    at = draw(st.integers(0, len(whole) - 1))
    broken = draw(
        st.sampled_from(
            [
                whole[:at],
                whole[:at] + b"[" * 100_000 + whole[at:],
                whole[:at] + bytes([draw(st.integers(0, 255))]) + whole[at + 1 :],
                whole.decode().encode("utf-16"),
                whole.replace(b'"models"', b'"models": ["a"], "models"', 1),
                whole.replace(b"1.0", b"9" * 5000, 1),
                whole.replace(b"1.0", b"1e999", 1),
            ]
        )
    )
    return Case(broken, None, False, seed)


def aged(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as version 2 had it."""

    def old(value: Any) -> Any:
        if isinstance(value, list):
            return [old(each) for each in value]
        return LOWEST if value == "lowest" else value

    names = [*("thresholds", "abstain_thresholds", "draw_thresholds", "draw_abstain_thresholds")]
    names += ["threshold_intervals_90", "abstain_intervals_90", "threshold_intervals", "abstain_intervals"]
    record = deepcopy(record)
    for holder in [record, *record.get("points", [])]:
        holder.update({name: old(holder[name]) for name in names if name in holder})
    if "probability" in record.get("question", {}):
        record["question"]["confidence"] = record["question"].pop("probability")
    del record["content_digest"], record["fit_verdict"]
    return record | {"schema_version": 2}


# What should become of them


def number(value: Any, low: float = LOWEST, high: float = -LOWEST) -> bool:
    return type(value) in (int, float) and low - 1e-6 <= value <= high + 1e-6


def level(value: Any, kind: str) -> bool:
    return value in ("inf", "-inf", "lowest") if isinstance(value, str) else number(value, *RANGE[kind])


def figures(holder: dict[str, Any], prefix: str) -> bool:
    """Whether predicted figures can be."""
    good = True
    for name in ("error", "cost", "expense", "abstain", "latency"):
        mean, low, high = (holder.get(f"{prefix}{name}{end}") for end in ("", "_q05", "_q95"))
        top = 1.0 if name in ("error", "abstain") else -LOWEST
        if (mean, low, high) != (None, None, None):
            good &= (
                all(number(value, 0, top) for value in (mean, low, high)) and low <= high * (1 + 1e-5) + 1e-5
            )
        else:
            good &= name == "latency" or (prefix != "" and name == "abstain")
    return good


def cascade(holder: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether models, thresholds and costs can go together."""
    models, high, low = holder["models"], holder["thresholds"], holder["abstain_thresholds"]
    kind, terms = record["confidence"], record["terms"]
    good = all(isinstance(name, str) and name for name in models) and len({*models}) == len(models) > 0
    good &= len(high) == len(models) - 1 and all(level(value, kind) for value in high)
    good &= len(holder["call_cost"]) == len(models) and all(number(cost, 0) for cost in holder["call_cost"])
    if low is not None:
        value = {"inf": math.inf, "-inf": -math.inf, "lowest": LOWEST}
        good &= len(low) == len(models) and all(level(each, kind) for each in low)
        good &= all(value.get(a, a) <= value.get(b, b) for a, b in zip(low, high, strict=False))
        good &= terms["abstain_price"] is not None
        good &= terms["abstain"] == "early" or {*low[:-1]} <= {"-inf"}
    return good


def sound(record: dict[str, Any]) -> bool:
    """Whether a record can be a policy or a frontier, as far as thirty lines tell."""
    terms, verdict = record["terms"], record["fit_verdict"]
    good = record["cost_unit"] in ("US dollars per query", "deferrals per query")
    good &= record["confidence"] in RANGE
    good &= type(record["schema_version"]) is int and len(record["fit_digest"]) == 64
    good &= number(terms["latency_price"], 0) and len(terms) == 4 and type(terms["constant_costs"]) is bool
    good &= terms["abstain_price"] is None or number(terms["abstain_price"], 0)
    good &= verdict is None or (type(verdict["trusted"]) is bool and isinstance(verdict["sentence"], str))
    if "points" in record:
        good &= len(record) == 10 and bool(record["points"])
        for point in record["points"]:
            reach = point["reach_prob"]
            good &= (
                cascade(point, record) and figures(point, "expected_") and len(reach) == len(point["models"])
            )
            good &= number(point["error_price"], 0) and all(number(each, 0, 1) for each in reach)
        return good
    question, draws = record["question"], record["draw_thresholds"]
    reach = record["prediction"]["reach_prob"]
    good &= len(record) == 19 and cascade(record, record) and figures(record["prediction"], "")
    if record["abstain_thresholds"] is None:
        good &= number(record["prediction"]["abstain"], 0, 0)
    good &= len(reach) == len(record["models"]) and all(number(each, 0, 1) for each in reach)
    good &= number(record["error_price"], 0) and len(question) == 2 - ("error_price" in question)
    good &= all(number(value, 0) for value in question.values()) and number(
        question.get("probability", 0.5), 0, 1
    )
    good &= all(len(row) == len(record["thresholds"]) for row in draws)
    return good and all(level(value, record["confidence"]) for row in draws for value in row)


def answer(policy: Policy, seen: list[float]) -> Any:
    """Say who answers a query of which all confidences are known, or not, one model after the other."""
    for i, model in enumerate(policy.models):
        low = -math.inf if policy.abstain_thresholds is None else policy.abstain_thresholds[i]
        high = policy.thresholds[i] if i < len(policy.thresholds) else -math.inf
        if low == math.inf:
            return ABSTAIN
        if low == -math.inf and high == math.inf:
            continue
        if low == -math.inf and high == -math.inf:
            return model
        if not math.isnan(seen[i]):
            if seen[i] < low:
                return ABSTAIN
            if not seen[i] < high:
                return model
    return InputError


def decides(policy: Policy, seed: int) -> None:
    """Check the decisions on six queries, with the thresholds among their confidences."""
    rng = np.random.default_rng(seed)
    every = np.concatenate(
        [policy.thresholds, [] if policy.abstain_thresholds is None else policy.abstain_thresholds]
    )
    low, high = {"logprob": (-math.inf, 0), "probability": (0, 1), "score": (-1e300, 1e300)}[policy.kind]
    at = np.append(every[(every >= low) & (every <= high)], [math.nan, high, max(low, -2.0), high / 2 - 0.25])
    table = rng.choice(np.clip(at, low, high), size=(6, len(policy.models)))
    wanted = [answer(policy, row.tolist()) for row in table]
    for row, ends in zip(table, wanted, strict=True):
        for given in (row.tolist(), row, tuple(row)):
            if ends is InputError:
                with pytest.raises(InputError, match="must be a number: by it the last model may abstain"):
                    policy.decide(given)
            else:
                assert policy.decide(given) == ends
    known = [i for i, ends in enumerate(wanted) if ends is not InputError]
    index = [-1 if wanted[i] is ABSTAIN else policy.models.index(wanted[i]) for i in known]
    np.testing.assert_array_equal(policy.decide(table[known]), index)
    if known:
        np.testing.assert_array_equal(policy.decide(table[known].tolist()), index)


def same(one: Policy, other: Policy, *, verdicts: bool, draws: bool) -> bool:
    """Whether two policies hold the same."""
    a, b = one.to_dict(), other.to_dict()
    ignored = {"content_digest"} | (set() if verdicts else {"fit_verdict"})
    if not draws:
        ignored |= {name for name in a if name.startswith("draw_") or "_intervals_" in name} | {"question"}
    return {k: v for k, v in a.items() if k not in ignored} == {
        k: v for k, v in b.items() if k not in ignored
    }


def checker(path: Path, load: Any, save: Any) -> Any:
    """Return the property of a file's bytes."""

    def check(case: Case) -> str:
        path.write_bytes(case.content)
        single = load == Policy.load
        try:
            loaded = load(path)
        except InputError as error:
            said = str(error)
            assert case.holds is None, said
            assert str(path) in said
            assert len(said.splitlines()) == 1
            assert len(said) < 700
            assert "`" in said
            assert path.read_bytes() == case.content
            said.encode()  # can be printed
            return "refused"
        assert path.read_bytes() == case.content
        found = [loaded] if single else loaded
        record = json.loads(case.content.decode("utf-8-sig"))
        assert record["schema_version"] == 2 or sound(record), record
        if case.holds is not None:
            assert len(found) == len(case.holds)
            for one, other in zip(found, case.holds, strict=True):
                assert same(one, other, verdicts=case.verdicts, draws=single)
        policy = found[case.seed % len(found)]
        path.write_text(json.dumps(policy.to_dict()))
        assert same(Policy.load(path), policy, verdicts=True, draws=True)
        decides(policy, case.seed)
        return "accepted"

    return check


@examples
def test_policies(num_examples: int, tmp_path: Path, record_property) -> None:
    def write(policy: Policy) -> bytes:
        return json.dumps(policy.to_dict(), allow_nan=False).encode()

    check = checker(tmp_path / "policy.json", Policy.load, write)
    tally = fuzz("policy files", cases(policies(), write), check, num_examples, record_property)
    assert tally["accepted"] > 0.2 * num_examples


@examples
def test_frontiers(num_examples: int, tmp_path: Path, record_property) -> None:
    def write(made: list[Policy]) -> bytes:
        one = made[0]
        context = {
            name: getattr(one, name)
            for name in ("kind", "call_cost", "fit_digest", "terms", "fit_verdict", "units")
        }
        frontier = Made(
            error_prices=np.array([policy.error_price for policy in made]),
            context=context | {"policies": made},
        )
        return json.dumps(frontier.to_dict(), allow_nan=False).encode()

    check = checker(tmp_path / "frontier.json", load_policies, write)
    tally = fuzz("frontier files", cases(frontiers(), write), check, num_examples, record_property)
    assert tally["accepted"] > 0.2 * num_examples
