"""The notebooks: stored with clean outputs, and their code runs (with few draws)."""

import ast
import json
from itertools import groupby
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

SHORT = {
    "NUM_CHAINS": 2,
    "NUM_WARMUP": 60,
    "NUM_SAMPLES": 60,
    "MAX_ROUNDS": 1,
    "NUM_PRICES": 5,
    "NUM_DRAWS": 20,
    "SIZES": (30,),
    "SEEDS": (0,),
}
"""Values for the constants of the cell with the tag ``parameters``, for a run of a minute."""

PRIVATE = ("/home", "/tmp", "/Users", "\\Users", str(Path(__file__).parents[1]))
"""Beginnings of paths on a machine that runs a notebook, and of this checkout's own."""

TIMEOUT_S = 900

LONG = ("02_threshold_uncertainty", "03_evidence", "04_priors")
"""Notebooks that take minutes even with few draws."""

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """Jupyter whose kernel ``python3`` is this interpreter, and which keeps its files in ``tmp_path``."""
    for name in (
        "IPYTHONDIR",
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_PATH",
        "JUPYTER_RUNTIME_DIR",
        "TMPDIR",
    ):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # else jupyter_core warns that this is to come
    for module in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(module)
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(tmp_path / "jupyter_path" / "kernels" / "python3")


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source_of(cell):
    return "".join(cell["source"])


def kinds(cell):
    """What a cell puts out: streams (a run of one counts once, standard error not at all) and MIME types."""
    found = [
        output["name"]
        if output["output_type"] == "stream"
        else " ".join(sorted(output.get("data", ["error"])))
        for output in cell["outputs"]
    ]
    return [kind for kind, _ in groupby(found) if kind != "stderr"]


def shortened(source):
    """Return the source of a parameters cell with the values of `SHORT` after its own."""
    names = {
        target.id
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
    }
    lines = [f"{name} = {value}" for name, value in SHORT.items() if name in names]
    assert lines, "the parameters cell sets nothing that makes the run long"
    return "\n".join([source, *lines])


@every
def test_stored_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert "execution" not in cell["metadata"], "strip the times of execution"
        if isinstance(ast.parse(source_of(cell)).body[-1], ast.Expr):
            assert cell["outputs"], f"no output of:\n{source_of(cell)}"
        for output in cell["outputs"]:
            assert output["output_type"] != "error", source_of(cell)
            assert output.get("name") != "stderr", output["text"]
        text = json.dumps(cell["outputs"], ensure_ascii=False)
        assert not [start for start in PRIVATE if start in text]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.long if path.stem in LONG else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
    ids=lambda path: path.stem,
)
@pytest.mark.usefixtures("jupyter")
def test_code_runs(path, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    stored = [kinds(cell) for cell in code_cells(notebook)]
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = shortened(parameters.source)

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=TIMEOUT_S,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()  # raises if a cell does
    assert [kinds(cell) for cell in code_cells(notebook)] == stored
