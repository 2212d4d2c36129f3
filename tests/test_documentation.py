"""README.md and the site: what they show runs, what they name exists, and nothing public is missing."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from difflib import SequenceMatcher
from pathlib import Path

import blocks
import pytest
from command_text import commands, markdown

import cascade_bayes as cb

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = blocks.pages()
FIRST = DOCS / "start.md"
"""The page that others go on from."""

LINK = re.compile(r"(?<!\\)\[[^\]\[]*\]\((?P<target>[^)\s]+)\)|^```\{image\} (?P<image>\S+)", re.M)
FENCED = re.compile(r"^```.*?^```[ ]*$", re.M | re.S)
NUMBER = re.compile(r"-?\d[\d.,]*(e-?\d+)?%?")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_readme_has_the_blocks_that_ci_runs() -> None:
    marks = [block.mark for block in blocks.blocks(ROOT / "README.md") if block.language == "bash"]
    assert [mark for mark in marks if mark.startswith("ci: ")] == ["ci: demo", "ci: tests"]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCED.sub(
        lambda found: found[0] if found[0].startswith("```{image}") else "", page.read_text("utf-8")
    )
    for found in LINK.finditer(text):
        target, _, anchor = (found["target"] or found["image"]).partition("#")
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path = (page.parent / target).resolve() if target else page
        if "notebooks" in path.parts and not path.suffix:
            path = ROOT / "notebooks" / f"{path.name}.ipynb"  # the copy that the site shows
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page}: {target}#{anchor}"


@each_page
def test_blocks_are_code(page: Path) -> None:
    for block in blocks.blocks(page):
        if block.language == "python":
            ast.parse(block.text)
        if block.is_code and not block.runs:
            assert block.mark.partition(": ")[2], f"{page}:{block.line} says no reason"
        if block.mark == "output":
            assert block.text.strip(), f"{page}:{block.line} shows no output"


def called(page: Path) -> list[list[str]]:
    """Return the words of every ``cascade-bayes`` command of a page, in blocks and in the text."""
    text = page.read_text(encoding="utf-8")
    shell = [
        blocks.commands_of(block) for block in blocks.blocks(page) if block.language in ("bash", "console")
    ]
    lines = "\n".join(shell).replace("\\\n", " ").splitlines()
    quoted = re.findall(r"`(cascade-bayes [a-z][^`]*)`", FENCED.sub("", text))
    every = [part.strip() for line in lines for part in re.split(r"&&|\|\||[|>;]", line)]
    return [
        shlex.split(part)[1:]
        for part in [*every, *(" ".join(one.split()) for one in quoted)]
        if part.startswith("cascade-bayes ")
    ]


@each_page
def test_commands_and_options_exist(page: Path) -> None:
    known = commands()
    for name, *words in called(page):
        assert name in known, f"{page}: {name}"
        options = {
            option: parameter
            for parameter in known[name].params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        for word in words:
            option = word.partition("=")[0]
            if re.match(r"--?[a-zA-Z]", option):
                assert option in options or option == "--help", f"{page}: {name} {option}"


def test_reference_has_every_command_and_option() -> None:
    text = "\n".join(markdown())
    listed = dict(
        zip(re.findall(r"^## (.+)$", text, re.M), re.split(r"^## .+$", text, flags=re.M)[1:], strict=True)
    )
    assert list(listed) == list(commands())
    for name, command in commands().items():
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("-") and option != "--help":
                    assert f"`{option}" in listed[name], f"{name} {option}"


def test_reference_has_every_public_name() -> None:
    pages = "\n".join(path.read_text("utf-8") for path in sorted((DOCS / "reference").glob("*.md")))
    described = set(re.findall(r"^\.\. auto(?:function|class|data|exception):: (\w+)$", pages, re.M))
    described |= {name for name in ("plot", "example") if f"cascade_bayes.{name}\n" in pages}
    returned = {name for name in cb._HOME if not name.startswith("plot_")}
    assert described >= {*cb.__all__, *returned}
    assert described >= set(cb.plot.__all__)


def test_public_names_are_few_and_exist() -> None:
    assert len(cb.__all__) == len(set(cb.__all__)) <= 35
    assert all(hasattr(cb, name) for name in (*cb.__all__, *cb._HOME))


def test_citation_and_package_have_one_version() -> None:
    cited, packaged = (
        re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M)
        for name, pattern in (("CITATION.cff", r"^version: (.+)$"), ("pyproject.toml", r'^version = "(.+)"$'))
    )
    assert cited is not None
    assert packaged is not None
    assert cited[1] == packaged[1]


def test_pages_of_the_site_are_in_a_table_of_contents() -> None:
    listed = set()
    for page in DOCS.rglob("*.md"):
        for block in blocks.blocks(page):
            if block.language == "{toctree}":
                entries = [line for line in block.text.splitlines() if line and not line.startswith(":")]
                listed |= {(page.parent / entry).resolve().relative_to(DOCS).as_posix() for entry in entries}
    written = {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if DOCS in page.parents}
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert listed == (written | notebooks) - {"index"}


def words(text: str) -> list[str]:
    """Return the words of what a block prints, with numbers and the frames of tables left out."""
    parts = re.split(r"[\s\u2500-\u257f]+", NUMBER.sub("", text))
    return [part for part in parts if re.search(r"\w", part)]


ALIKE = 0.9
"""Share of words that agree between what a block prints and what its page shows: on another machine another
parameter may have the largest R-hat, and another cascade may be the best by a hair."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[blocks.Ran]]:
    """Return the folder that the blocks of the first page leave, and what they printed."""
    folder = tmp_path_factory.mktemp("start")
    blocks.lay_out(folder)
    return folder, blocks.run(FIRST, folder)


RUNNING = [page for page in PAGES if blocks.with_outputs(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run_and_print_what_the_page_shows(
    page: Path, started: tuple[Path, list[blocks.Ran]], tmp_path: Path
) -> None:
    """Words must agree; numbers may differ from machine to machine."""
    folder, printed = started
    if page != FIRST:
        if (before := blocks.goes_on_from(page)) is not None:
            assert before == FIRST
            tmp_path = tmp_path / "folder"
            shutil.copytree(folder, tmp_path)
        else:
            blocks.lay_out(tmp_path)
        try:
            printed = blocks.run(page, tmp_path)
        except subprocess.CalledProcessError as error:
            pytest.fail(f"{page}: exit status {error.returncode}\n{error.output}")
    for ran in printed:
        if ran.output is not None:
            pair = words(ran.said), words(ran.output.text)
            agreeing = SequenceMatcher(None, *pair, autojunk=False).ratio()
            assert agreeing >= ALIKE, f"{page}:{ran.block.line} prints\n{ran.said}"
