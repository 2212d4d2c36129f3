"""JSON files as they come from elsewhere."""

import json
from pathlib import Path

import pytest

from cascade_bayes import _files
from cascade_bayes._files import read_json, show
from cascade_bayes.errors import InputError

GOOD = json.dumps({"schema": "some.kind", "value": 1.5}).encode()


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert read_json(tmp_path / "a.json", "kind", ["some.kind"])["value"] == 1.5


@pytest.mark.parametrize(
    ("content", "clue"),
    [
        (GOOD[:-3], "cut short"),
        (b"", "cut short"),
        (GOOD.decode().encode("utf-16"), "not text in UTF-8"),
        (b'{"schema": "some.kind", "value": 1, "value": 2}', "the key 'value' stands twice"),
        (b'{"schema": "some.kind", "value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nest too deep"),
        (b'{"schema": "some.kind", "value": ' + b"9" * 5000 + b"}", "cut short"),
        (b'{"schema": ["some.kind"]}', "its schema is a list of 1"),
        (b'{"schema": "' + b"x" * 10_000 + b'"}', f"its schema is '{'x' * 59}..."),
        (b"[1, 2]", "its schema is None"),
    ],
)
def test_what_is_no_file_of_ours_is_refused_in_a_sentence(content: bytes, clue: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_json(path, "kind", ["some.kind"])
    assert clue in str(refused.value)
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 500


def test_no_more_is_read_than_a_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_bytes(GOOD + b" " * (1 << 20))
    read_json(tmp_path / "a.json", "kind", ["some.kind"])
    monkeypatch.setattr(_files, "MAX_JSON_BYTES", 1 << 20)
    with pytest.raises(InputError, match=r"over 1 MiB, which no kind file is"):
        read_json(tmp_path / "a.json", "kind", ["some.kind"])


def test_a_path_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.json"):
        with pytest.raises(InputError, match="does not exist"):
            read_json(path, "kind", ["some.kind"])
    with pytest.raises(InputError, match=r"cannot be read|does not exist"):
        read_json(tmp_path / ("x" * 300), "kind", ["some.kind"])


def test_values_are_shown_in_short() -> None:
    assert show(10**5000) == "a number of thousands of digits"
    assert len(show(10**400)) < 100
    assert show({"a": 1}) == "an object"
    assert show("two\nlines") == r"'two\nlines'"
