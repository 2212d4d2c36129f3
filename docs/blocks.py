"""The fenced code blocks of README.md and of the pages of this site: finding them, and running them.

A block of ``python``, ``bash`` or ``console`` runs, with the others of its page and in their order, in a
folder that holds ``train.parquet`` and ``test.parquet``, the bundled example. A comment on the line before a
block says what is special about it:

``<!-- not run: REASON -->``
    It does not run, such as what installs packages.
``<!-- ci: NAME -->``
    ``.ci/run`` runs it by itself, from a fresh environment.
``<!-- output -->``
    The ``text`` block that follows is what the block before it prints.

A page that says ``<!-- goes on from: PAGE -->`` begins with the files that the blocks of that page leave.

``python docs/blocks.py [PAGE ...]`` runs the blocks of pages and writes what they print into their output
blocks; `tests/test_documentation.py` runs them and compares.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("python", "bash", "console")
_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ ]*$",
    re.M | re.S,
)
_GOES_ON = re.compile(r"^<!-- goes on from: (?P<page>\S+) -->$", re.M)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes
    ----------
    language
        What stands behind its opening fence.
    text
        What it holds, with its last line break.
    mark
        The comment on the line before it, without its brackets; empty if there is none.
    line
        Line of the opening fence in its page, from 1.
    span
        Where ``text`` begins and ends in the page, in characters.
    """

    language: str
    text: str
    mark: str
    line: int
    span: tuple[int, int]

    @property
    def is_code(self) -> bool:
        """Whether it is something to run."""
        return self.language in LANGUAGES

    @property
    def runs(self) -> bool:
        """Whether it runs with the other blocks of its page."""
        return self.is_code and not self.mark.startswith(("not run: ", "ci: "))


class Ran(NamedTuple):
    """A block that ran.

    Attributes
    ----------
    block
        The block.
    output
        The block of its page that shows what it prints; None if there is none.
    said
        What it printed, on standard output and standard error.
    seconds
        How long it ran.
    processor
        Seconds that processor cores worked for it, which other work on the machine hardly changes.
    """

    block: Block
    output: Block | None
    said: str
    seconds: float
    processor: float


def pages() -> list[Path]:
    """Return README.md, CONTRIBUTING.md and every page of the site that is written by hand."""
    site = sorted(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if not {"_build", "notebooks"} & set(path.relative_to(ROOT / "docs").parts)
    )
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *site]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            language=found["language"].strip(),
            text=found["text"],
            mark=found["mark"] or "",
            line=text.count("\n", 0, found.start("fence")) + 1,
            span=found.span("text"),
        )
        for found in _FENCE.finditer(text)
    ]


def goes_on_from(page: Path) -> Path | None:
    """Return the page whose files a page begins with, None if it begins with the example alone."""
    found = _GOES_ON.search(page.read_text(encoding="utf-8"))
    return None if found is None else ROOT / found["page"]


def commands_of(block: Block) -> str:
    """Return what of a block a shell or Python is given: of a console block what stands behind ``$``."""
    if block.language != "console":
        return block.text
    return "".join(line[2:] + "\n" for line in block.text.splitlines() if line.startswith("$ "))


def with_outputs(page: Path) -> list[tuple[Block, Block | None]]:
    """Return the blocks of a page that run, each with the block of what it prints if the page shows that."""
    every = blocks(page)
    following = [*every[1:], None][: len(every)]
    return [
        (block, after if after is not None and after.mark == "output" else None)
        for block, after in zip(every, following, strict=True)
        if block.runs
    ]


def lay_out(folder: Path) -> None:
    """Put the example's tables into a folder, and ``cascade-bayes`` and ``python`` into its ``.bin``."""
    from cascade_bayes import example

    shutil.copy(example.train_path(), folder / "train.parquet")
    shutil.copy(example.test_path(), folder / "test.parquet")
    (folder / ".bin").mkdir()
    for name, command in (("cascade-bayes", "-m cascade_bayes.cli"), ("python", "")):
        program = folder / ".bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n', encoding="utf-8")
        program.chmod(0o755)


_DRIVER = """
import sys
from pathlib import Path
names = {"__name__": "__main__"}
for i, path in enumerate(sys.argv[1:]):
    if i:
        print(SEPARATOR, flush=True)
    exec(compile(Path(path).read_text(encoding="utf-8"), path, "exec"), names)
"""
_SEPARATOR = "--- the next block ---"


def run(page: Path, folder: Path) -> list[Ran]:
    """Run the blocks of a page in a folder, and return what became of each.

    Python blocks with nothing but Python between them share one process, and the seconds of its first.

    Raises
    ------
    subprocess.CalledProcessError
        If a block ends with an exit status other than 0; its ``output`` holds what was printed.
    """
    environment = {
        **os.environ,
        "PATH": f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "COLUMNS": "80",
        "TERM": "dumb",
        "MPLBACKEND": "agg",
    }
    environment.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)  # the tests' own: a fit would run for minutes
    done: list[Ran] = []
    waiting: list[tuple[Block, Block | None]] = []

    def call(command: Sequence[str]) -> tuple[str, float, float]:
        began, worked = time.perf_counter(), _processor()
        ended = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        if ended.returncode:
            raise subprocess.CalledProcessError(ended.returncode, command, ended.stdout)
        return ended.stdout, time.perf_counter() - began, _processor() - worked

    def run_python() -> None:
        if not waiting:
            return
        files = []
        for i, (block, _) in enumerate(waiting):
            files.append(folder / ".bin" / f"{len(done) + i}.py")
            files[-1].write_text(block.text, encoding="utf-8")
        driver = _DRIVER.replace("SEPARATOR", repr(_SEPARATOR))
        said, *times = call([sys.executable, "-c", driver, *map(str, files)])
        for (block, output), part in zip(waiting, said.split(_SEPARATOR + "\n"), strict=True):
            done.append(Ran(block, output, part, *times))
            times = [0.0, 0.0]
        waiting.clear()

    for block, output in with_outputs(page):
        if block.language == "python":
            waiting.append((block, output))
            continue
        run_python()
        done.append(Ran(block, output, *call(["bash", "-euo", "pipefail", "-c", commands_of(block)])))
    run_python()
    return done


def _processor() -> float:
    """Return the seconds that processor cores have worked for programs that this one has run."""
    times = os.times()
    return times.children_user + times.children_system


def run_with_ancestors(page: Path, folder: Path) -> list[Ran]:
    """Run a page after the pages whose files it goes on from, all in one folder."""
    before = goes_on_from(page)
    if before is None:
        lay_out(folder)
    else:
        run_with_ancestors(before, folder)
    return run(page, folder)


def main(names: Sequence[str]) -> None:
    """Run pages, and write what their blocks print into them."""
    chosen = [Path(name).resolve() for name in names] or pages()
    for page in chosen:
        if not with_outputs(page):
            continue
        with tempfile.TemporaryDirectory() as name:
            done = run_with_ancestors(page, Path(name))
        text = page.read_text(encoding="utf-8")
        for ran in done:
            place = f"{page.relative_to(ROOT)}:{ran.block.line}"
            print(f"{place}: {ran.seconds:.1f} s, {ran.processor:.1f} s of processor")
        # The page as it stands now: somebody may have written in it meanwhile.
        for ran, (_, output) in reversed(list(zip(done, with_outputs(page), strict=True))):
            if output is not None:
                start, end = output.span
                said = "".join(f"{line.rstrip()}\n" for line in ran.said.strip("\n").split("\n"))
                text = text[:start] + said + text[end:]
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
