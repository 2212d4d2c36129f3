"""A collection as tasks of Inspect, one a model, and what their samples become in the table."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspect_ai import Task
from inspect_ai import eval as evaluate_tasks
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.solver import Solver, solver

from cascade_bayes.collecting.confidences import WAYS, answer_config, ask
from cascade_bayes.collecting.desk import Desk, paid_grader
from cascade_bayes.collecting.judging import find_scorer, is_right, judged_for
from cascade_bayes.collecting.ledger import Ledger
from cascade_bayes.collecting.tables import Row
from cascade_bayes.errors import InputError
from cascade_bayes.reading.files import one_line

if TYPE_CHECKING:
    from cascade_bayes.collecting.job import Job, Progress

Found = tuple[list[Row], dict[str, list[str]], dict[str, str]]
"""Rows; by model, the kind of each failure; by model, what the first failure said."""


def evaluate(job: Job, ledger: Ledger, folder: Path, progress: Progress | None) -> Found:
    """Run a collection, and return its rows in the order of questions, model by model.

    Parameters
    ----------
    job
        What is asked.
    ledger
        Where calls are entered.
    folder
        Where Inspect writes its logs.
    progress
        What is told after every question.

    Raises
    ------
    InputError
        If Inspect cannot make a model, or ends a run as a whole.
    KeyboardInterrupt
        If the user ended it.
    """
    with _others_warnings_left_out():
        try:
            grader = None
            if job.grader is not None:
                grader = paid_grader(get_model(job.grader, memoize=False), job.grader, ledger)
            scorer = find_scorer(job.scorer, grader)
            done = _counter(len(job.questions) * len(job.models), ledger, progress)
            desks = [Desk(name, ledger, job.max_tokens) for name in job.models]
            tasks = [
                _task(job, desk, model, judged_for(desk, scorer), done)
                for desk, model in zip(desks, job.models.values(), strict=True)
            ]
            logs = evaluate_tasks(
                tasks,
                display="log",
                log_level="error",
                log_dir=str(folder / "logs"),
                log_realtime=False,
                fail_on_error=False,
                ctl_server=False,
                max_tasks=len(tasks),
            )
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"Inspect cannot start: {plain_text(error)}. Check the names of the models, their packages "
                "and their keys in the environment."
            ) from error
    return _found(job, desks, logs)


@contextmanager
def _others_warnings_left_out() -> Iterator[None]:
    """Leave out warnings of Inspect and what it builds on: they are for its developers, not for ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _counter(total: int, ledger: Ledger, progress: Progress | None) -> Callable[[], None]:
    """Return what is called after each question, and tells the progress."""
    number = 0

    def done() -> None:
        nonlocal number
        number += 1
        if progress is not None:
            progress(number, total, ledger.spent)

    return done


@solver  # type: ignore[untyped-decorator]
def counting(done: Callable[[], None], inner: list[Solver]) -> Solver:
    """Return the solver that runs others one after the other, and counts the question as done at the end."""

    async def solve(state: Any, generate: Any) -> Any:
        try:
            for step in inner:
                state = await step(state, generate)
        finally:
            done()
        return state

    return solve


def _task(job: Job, desk: Desk, model: Any, scorer: Any, done: Callable[[], None]) -> Task:
    samples = [
        Sample(
            input=question.input,
            target=question.target,
            id=question.id,
            choices=list(question.choices) or None,
        )
        for question in job.questions
    ]
    steps = [
        ask(desk, answer_config(job.confidence), job.system),
        WAYS[job.confidence].solver(desk, job.samples),
    ]
    config = GenerateConfig(max_connections=job.connections, max_retries=job.retries, timeout=job.timeout)
    return Task(
        dataset=MemoryDataset(samples),
        solver=counting(done, steps),
        scorer=scorer,
        model=get_model(model, memoize=False) if isinstance(model, str) else model,
        config=config,
        name="collect",
    )


def _found(job: Job, desks: list[Desk], logs: Any) -> Found:
    rows: list[Row] = []
    failed: dict[str, list[str]] = {}
    errors: dict[str, str] = {}
    if any(log.status == "cancelled" for log in logs):
        raise KeyboardInterrupt
    for desk, log in zip(desks, logs, strict=True):
        if log.status != "success":
            reason = plain_text(log.error.message) if log.error else log.status
            raise InputError(
                f"Inspect ended the run of model {desk.name!r}: {reason}. Mend that and start again: what "
                "has been paid for is kept."
            )
        failed[desk.name] = []
        samples = {str(sample.id): sample for sample in log.samples or []}
        for question in job.questions:
            sample = samples[question.id]
            if sample.error is not None:
                failed[desk.name].append(desk.failed.get(question.id, "provider"))
                reason = desk.reasons.get(question.id) or plain_text(sample.error.message)
                errors.setdefault(desk.name, reason)
                continue
            score = next(iter(sample.scores.values()))
            correct = is_right(score.value)
            if correct is None:
                failed[desk.name].append("scorer")
                errors.setdefault(desk.name, f"the score {score.value!r} is no number")
                continue
            rows.append(desk.row(question.id, correct, score.answer or sample.output.completion.strip()))
    return rows, failed, errors


def plain_text(error: Any) -> str:
    """Return what an error of Inspect says, in one line without the request that it quotes."""
    text = str(error)
    lines = [
        line for line in re.sub(r"\[/?[a-z ]+\]", "", text).replace("\\n", "\n").splitlines() if line.strip()
    ]
    return one_line(ValueError(" ".join(lines)[-300:] if lines else type(error).__name__))
