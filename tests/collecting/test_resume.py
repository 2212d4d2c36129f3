"""Killed at a random call and started again: the same table, and no call is paid twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("inspect_ai", reason="needs the extra: pip install '.[collect]'")

from local_server import Server, reply

from cascade_bayes.collecting.ledger import Call, Ledger
from cascade_bayes.errors import InputError

QUESTIONS = [{"id": f"q{i}", "input": f"What is {i} + {i}?", "target": str(2 * i)} for i in range(12)]


def answer(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer the sum; the probability of yes is that of the question's length."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    if "Proposed answer" in text:
        return [reply("Y", [[("Y", -0.01 * len(text)), ("N", -2.0)]])]
    number = int(text.split()[2])
    return [reply(str(2 * number))]


def command(folder: Path, server: Server, connections: int) -> subprocess.Popen[str]:
    """Start the command as a person would, on the questions in a folder."""
    arguments = ["collect", "questions.jsonl", "--model", "openai-api/local/m", "-o", "table.parquet"]
    arguments += ["--prices", "prices.json", "--max-cost", "1", "--connections", str(connections)]
    return subprocess.Popen(
        [sys.executable, "-m", "cascade_bayes.cli", *arguments],
        cwd=folder,
        env={**os.environ, "LOCAL_BASE_URL": server.url, "LOCAL_API_KEY": "none"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lay_out(folder: Path) -> Path:
    folder.mkdir()
    (folder / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
    (folder / "prices.json").write_text(json.dumps({"openai-api/local/m": {"in": 1, "out": 2}}))
    return folder


def run_killed(folder: Path, server: Server, connections: int, at: int) -> None:
    """Start a collection and kill it when its call of this number has come, before that is answered."""
    process = command(folder, server, connections)
    first = server.calls
    killed = threading.Event()

    def before(body: dict[str, Any]) -> None:
        if server.calls - first >= at:
            if not killed.is_set():
                killed.set()
                process.send_signal(signal.SIGKILL)
            process.wait()

    server.before = before
    _, told = process.communicate(timeout=120)
    server.before = lambda body: None
    assert process.returncode == -signal.SIGKILL, told


@pytest.mark.parametrize(
    "connections", [pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.long)]
)
def test_killed_at_random_calls_nothing_is_paid_twice(tmp_path: Path, connections: int) -> None:
    numbers = random.Random(connections)
    with Server(answer) as server:
        folder = lay_out(tmp_path / "killed")
        for _ in range(3):
            run_killed(folder, server, connections, numbers.randint(connections + 2, connections + 6))
        assert not (folder / "table.parquet").exists()
        done = command(folder, server, connections)
        said, told = done.communicate(timeout=120)
        assert done.returncode == 0, told
        assert "of which" in told
        assert "12 rows for" in said
        # A call that was answered just as its process died may be made again: those under way alone.
        again = sum(count - 1 for count in server.answered.values())
        assert again <= 3 * (connections - 1)
        assert len(server.answered) == 24
    with Server(answer) as other:
        whole = lay_out(tmp_path / "whole")
        process = command(whole, other, connections)
        assert process.wait(timeout=120) == 0
        process.communicate()
    tables = [pd.read_parquet(place / "table.parquet") for place in (folder, whole)]
    same = [table.drop(columns="latency_ms") for table in tables]
    pd.testing.assert_frame_equal(*same)


def test_a_half_written_line_of_the_journal_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    prices = {"m": (1.0, 2.0)}
    ledger = Ledger(path, prices, None)
    ledger.settle(("m", "q", "answer"), 0.0, Call(10, 5, 0.5))
    ledger.settle(("m", "q", "answer"), 0.0, Call(10, 5, 0.5))  # counts once
    ledger.close()
    assert ledger.spent == pytest.approx(20e-6)
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    for _ in range(2):
        again = Ledger(path, prices, None)
        again.settle(("m", "r", "answer"), 0.0, Call(10, 5, 0.5, True))
        again.close()
        assert again.spent == pytest.approx(40e-6)
    path.write_text('{"model": "m"}\n' + whole)
    with pytest.raises(InputError, match=r"line 1 of .* is no finished call. Remove the folder"):
        Ledger(path, prices, None)
