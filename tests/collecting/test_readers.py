"""Tables of logs: of Inspect, which writes them here, of lm-evaluation-harness and of chat completions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_server import reply

import cascade_bayes as cb
from cascade_bayes.collecting import read_inspect, read_lm_eval, read_openai
from cascade_bayes.errors import DataWarning, InputError

pytestmark = [
    # of streams inside Inspect, which it leaves to the collector of garbage
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

QUESTIONS = [
    {"id": "a", "input": "Capital of France?", "target": "Paris"},
    {"id": "b", "input": "Capital of Peru?", "target": "Lima"},
]


def write_lines(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# lm-evaluation-harness, in its documented form


def sample(doc: int, logs: list[Any], acc: float, **more: Any) -> dict[str, Any]:
    resps = [[[log, "False"]] for log in logs]
    return {"doc_id": doc, "doc": {}, "target": 0, "resps": resps, "acc": acc, "doc_hash": f"h{doc}"} | more


def test_options_of_lm_eval_are_normalised(tmp_path: Path) -> None:
    name = "samples_arc_easy_2026-01-02T03-04-05.123456.jsonl"
    for model, logs in (("small", [-1.0, -2.0, -3.0]), ("large", ["-0.5", "-4.0", "-inf"])):
        write_lines(tmp_path / model / name, [sample(0, logs, 1.0), sample(1, logs[::-1], 0.0)])
    table = read_lm_eval(tmp_path)
    assert sorted(table["query"].unique()) == ["arc_easy/0", "arc_easy/1"]
    small = table[table["model"] == "small"]
    by_hand = -1.0 - math.log(math.exp(-1) + math.exp(-2) + math.exp(-3))
    np.testing.assert_allclose(small["confidence"], [by_hand] * 2)
    large = table[table["model"] == "large"]
    np.testing.assert_allclose(large["confidence"], -math.log1p(math.exp(-3.5)))
    assert table["answer"].tolist() == ["A", "C", "A", "C"]
    assert cb.read_table(table, costs=False, models=["small", "large"]).correct.sum() == 2


def test_generations_of_lm_eval_have_their_metric_and_no_confidence(tmp_path: Path) -> None:
    record = {"doc_id": 3, "resps": [["It is 4."]], "filtered_resps": ["4"], "exact_match": 1.0}
    path = write_lines(tmp_path / "m" / "samples_gsm8k.jsonl", [{**record, "filter": f} for f in ("s", "t")])
    with pytest.raises(InputError, match=r"two answers of model 'm'.* \(--filter strict-match\)"):
        read_lm_eval(path)
    table = read_lm_eval(path, filter_name="t", models={str(path): "mine"})
    assert table[["query", "model", "correct", "answer"]].to_numpy().tolist() == [["gsm8k/3", "mine", 1, "4"]]
    assert table["confidence"].isna().all()


# chat completions


def line(query: str, choice: dict[str, Any], model: str = "m", status: int = 200) -> dict[str, Any]:
    body = {"model": model, "choices": [choice], "usage": {"prompt_tokens": 30, "completion_tokens": 2}}
    return {"custom_id": query, "response": {"status_code": status, "body": body}, "error": None}


PARIS = reply(" paris.", [[("Pa", -0.25), ("x", -2.0)], [("ris", -0.75)], [("<|im_end|>", -5.0)]])


def test_batches_and_responses_of_openai_are_read(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "out.jsonl",
        [
            line("a", PARIS),
            line("b", PARIS),
            line("b", PARIS, status=500),
            line("b", reply("", refusal="No."), "n"),
            {"custom_id": "a", "model": "n", "choices": [PARIS]},
        ],
    )
    with pytest.warns(DataWarning, match="2 samples of the logs have no row: 1 provider fault, 1 refused"):
        table = read_openai(
            path, questions=QUESTIONS, prices={"m": {"in": 1, "out": 10}, "n": {"in": 0, "out": 0}}
        )
    assert table["correct"].tolist() == [1, 0, 1]
    np.testing.assert_allclose(table["confidence"], -0.5)
    np.testing.assert_allclose(table["cost"], [50e-6, 50e-6, np.nan])
    with pytest.warns(DataWarning):
        assert "correct" not in read_openai(path)


def test_letters_of_chat_completions(tmp_path: Path) -> None:
    choice = reply("B", [[("B", math.log(0.5)), (" B", math.log(0.2)), ("A", math.log(0.3))]])
    path = write_lines(tmp_path / "out.jsonl", [line("a", choice)])
    questions = [{"id": "a", "input": "?", "target": "Lima", "choices": ["Oslo", "Lima"]}]
    table = read_openai(path, questions=questions, confidence="answer_logprob")
    np.testing.assert_allclose(table["confidence"], math.log(0.7))
    assert table[["correct", "answer"]].to_numpy().tolist() == [[1, "B"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; write it again"),
        ('{"custom_id": "a"', "line 1 of .* is no JSON: .* may have been cut short"),
        ("[1]", "line 1 of .* must be a JSON object"),
        (json.dumps({"choices": []}), "does not say which question it is of: add the key"),
        (json.dumps({"custom_id": "a", "choices": []}), "is no chat completion"),
        (json.dumps(line("z", PARIS)), "question 'z', which is not among the questions"),
        (json.dumps(line("a", reply("Paris"))), 'has no log-probabilities.* "logprobs": true'),
        (json.dumps(line("a", reply("x", [[("x", 0.5)]]))), "has no log-probabilities, or broken ones"),
        ("\n".join([json.dumps(line("a", PARIS))] * 2), "two answers of model 'm' to 'a'"),
    ],
)
def test_broken_chat_completions_are_told_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_openai(path, questions=QUESTIONS)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"a": 1}, "no sample of lm-evaluation-harness: it has 'a'"),
        ({"doc_id": 1, "resps": []}, "has no metric that is known"),
        ({**sample(1, [-1, -2], 1.0), "acc": "x"}, "metric 'acc' of line 1 .* must be a number; got 'x'"),
        (sample(1, [2.0, -2], 1.0), "must be at most 0"),
        (sample(1, ["nan", -2], 1.0), "must be at most 0"),
    ],
)
def test_broken_samples_of_lm_eval_are_told(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_lm_eval(write_lines(tmp_path / "samples_x.jsonl", [record]))


def test_documents_must_agree(tmp_path: Path) -> None:
    for model, doc_hash in (("a", "1"), ("b", "2")):
        write_lines(tmp_path / model / "samples_t.jsonl", [sample(0, [-1, -2], 1.0, doc_hash=doc_hash)])
    with pytest.raises(InputError, match="are of different documents"):
        read_lm_eval(tmp_path)


# Inspect, which writes its logs here


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("inspect_ai", reason="needs the extra: pip install '.[collect]'")
    import warnings

    from inspect_ai import Task
    from inspect_ai import eval as run
    from inspect_ai.dataset import Sample
    from inspect_ai.model import Logprob, Logprobs, ModelOutput, ModelUsage, TopLogprob, get_model
    from inspect_ai.scorer import Score, accuracy, scorer
    from inspect_ai.solver import multiple_choice

    folder = tmp_path_factory.mktemp("logs")

    def out(messages: Any, *_: Any) -> ModelOutput:
        said = ModelOutput.from_content("mock", "ANSWER: B")
        tops = [TopLogprob(token=t, logprob=math.log(p)) for t, p in ((" B", 0.6), ("B", 0.1), (" A", 0.3))]
        content = [Logprob(token="ANSWER", logprob=0.0), Logprob(token=":", logprob=0.0)]
        content.append(Logprob(token=" B", logprob=math.log(0.6), top_logprobs=tops))
        said.choices[0].logprobs = Logprobs(content=content)
        said.usage = ModelUsage(input_tokens=7, output_tokens=1, total_tokens=8)
        return said

    @scorer(metrics=[accuracy()])
    def judged() -> Any:
        async def score(state: Any, target: Any) -> Score:
            return Score(value="C" if target.text == "B" else "I", metadata={"sure": -0.125})

        return score

    samples = [Sample(input="?", choices=["x", "y"], target=t, id=t) for t in "AB"]
    task = Task(dataset=samples, solver=multiple_choice(), scorer=judged(), name="task")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, form in (("small", "eval"), ("large", "json")):
            model = get_model(f"mockllm/{name}", custom_outputs=out, memoize=False)
            options: dict[str, Any] = {"display": "none", "log_format": form, "ctl_server": False}
            run(task, model=model, log_dir=str(folder), log_realtime=False, **options)
    return folder


def test_logs_of_inspect_become_a_table(logs: Path) -> None:
    prices = {f"mockllm/{name}": {"in": 1, "out": 1} for name in ("small", "large")}
    table = read_inspect(logs, confidence="answer_logprob", prices=prices)
    np.testing.assert_allclose(table["confidence"], math.log(0.7))
    np.testing.assert_allclose(table["cost"], 8e-6)
    assert dict(zip(table["query"], table["correct"], strict=True)) == {"A": 0, "B": 1}
    assert cb.read_table(table).models
    np.testing.assert_allclose(read_inspect(logs)["confidence"], math.log(0.6) / 3)
    np.testing.assert_allclose(read_inspect(logs, confidence="metadata:sure")["confidence"], -0.125)


def test_broken_logs_of_inspect_are_told(logs: Path, tmp_path: Path) -> None:
    whole = next(logs.glob("*.eval"))
    for name, content in (("cut.eval", whole.read_bytes()[:200]), ("no.json", b"{}"), ("no.eval", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=rf"the log .*{name}' cannot be read: .*`inspect eval-retry`"
        ) as raised:
            read_inspect(path)
        assert "\n" not in str(raised.value)
    text = json.loads(next(logs.glob("*.json")).read_text())
    half = tmp_path / "half.json"
    half.write_text(json.dumps({**text, "status": "started"}))
    with pytest.raises(InputError, match=r"did not end well \(status 'started'\): finish it by"):
        read_inspect(half)
    with pytest.raises(InputError, match=r"sample 'A' of .* has no 'unsure'"):
        read_inspect(whole, confidence="metadata:unsure")
    with pytest.raises(InputError, match=r"has the scores 'judged': pass score='judged'"):
        read_inspect(whole, score="other")
    with pytest.raises(InputError, match="two answers of model"):
        read_inspect([whole, whole])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file that ends in"):
        read_inspect(tmp_path / "empty")
