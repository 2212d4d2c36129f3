"""The commands `collect` and `convert`, and what is said where the extra is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from local_server import reply

QUESTIONS = '{"input": "Capital of France?", "target": "Paris"}\n'


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cascade_bayes.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_convert_writes_what_inspect_reads(tmp_path: Path) -> None:
    lines = []
    for i in range(6):
        for model in ("small", "large"):
            choice = reply("yes", [[("yes", -0.1 * i - (model == "small")), ("no", -9.0)]])
            lines.append(json.dumps({"query": i, "model": model, "choices": [choice]}))
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    done = run(tmp_path, "convert", "--from", "openai", "log.jsonl", "-o", "table.csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Wrote table.csv: 12 rows of large, small.")
    assert "--cost-per-call" in done.stdout
    assert (tmp_path / "table.csv").read_text().startswith("query,model,confidence,answer")
    shown = run(tmp_path, "inspect", "table.csv", "--cost-per-call", "small=1,large=2", "--json")
    assert json.loads(shown.stdout)["num_queries"] == 6
    again = run(tmp_path, "convert", "--from", "openai", "log.jsonl", "-o", "table.csv", "--json")
    assert json.loads(again.stdout) == {"output": "table.csv", "rows": 12, "models": ["large", "small"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["convert", "--from", "opnai", "x", "-o", "t.csv"],
            "--from must be one of inspect, lm-eval, op",
        ),
        (["convert", "--from", "openai", "x.jsonl", "-o", "t.csv"], "the log 'x.jsonl' does not exist"),
        (
            ["convert", "--from", "openai", "q.jsonl", "-o", "t.xlsx"],
            "must end in one of .parquet, .csv, .json",
        ),
        (
            ["convert", "--from", "openai", "q.jsonl", "-o", "t.csv", "--metric", "acc"],
            "--metric is not for",
        ),
        (["convert", "--from", "openai", "q.jsonl", "-o", "q.jsonl"], "is the file q.jsonl, which is read"),
    ],
)
def test_wrong_commands_are_told_in_a_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "q.jsonl").write_text(QUESTIONS)
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["q.jsonl"], "nothing is half-written"


def test_without_the_extra_a_sentence_names_it(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(QUESTIONS)
    code = (
        "import sys; sys.modules['inspect_ai'] = None; sys.argv[1:] = ['collect', 'q.jsonl', '--model', 'm', "
        "'-o', 't.csv']; from cascade_bayes.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'cascade-bayes[collect]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_does_not_import_the_extra() -> None:
    code = (
        "import sys, cascade_bayes as cb; cb.collect; cb.read_inspect; import cascade_bayes.cli.app; "
        "print([name for name in ('inspect_ai', 'openai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
