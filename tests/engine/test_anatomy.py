"""What is read from the methods' files and the recorded networks equals what their code says when it is loaded."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path

import pytest

from kdengine import anatomy, check, completion, literature, methods, replications, sizes
from kdengine.errors import KdError
from kdengine.home import Home
from kdengine.replications import Scale
from kdengine.spec import RunSpec

ROOT = Path(__file__).resolve().parents[2]
each_method = pytest.mark.parametrize("key", methods.keys())


@each_method
def test_knobs_are_those_of_the_class(key: str) -> None:
    schema = methods.get(key).params.model_json_schema().get("properties", {})
    read = anatomy.knobs(key)
    assert list(read) == list(schema)
    for name, knob in schema.items():
        said = {word: value for word, value in knob.items() if word != "title" and not (word == "type" and "enum" in knob)}
        assert read[name] == said, name


@each_method
def test_knobs_are_filled_as_the_class_fills_them(key: str) -> None:
    params = methods.get(key).params
    assert anatomy.filled(key, {}) == params().model_dump()
    for name, knob in anatomy.knobs(key).items():
        for choice in knob.get("enum", []):
            assert anatomy.filled(key, {name: choice}) == params(**{name: choice}).model_dump(), choice
        if knob.get("type") == "number":
            given = int(knob["default"]) + 1
            assert repr(anatomy.filled(key, {name: given})[name]) == repr(float(given))


@each_method
def test_the_code_of_the_loss_is_that_which_runs(key: str) -> None:
    entry = methods.get(key)
    for code, part in zip(anatomy.losses(key), (*entry.losses, entry.method.loss), strict=True):
        lines, first = inspect.getsourcelines(inspect.unwrap(part))
        assert code.text == textwrap.dedent("".join(lines)) and (code.first, code.last) == (first, first + len(lines) - 1)
        assert (ROOT / code.file).samefile(inspect.getsourcefile(inspect.unwrap(part)) or "")
        assert code.where == f"{code.file}, lines {code.first} to {code.last}"
    assert anatomy.whole(key) == (ROOT / f"kdengine/methods/{key}.py").read_text(encoding="utf-8")


def test_a_file_in_another_form_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kdengine" / "methods"
    folder.mkdir(parents=True)
    monkeypatch.setattr(anatomy, "FOLDER", folder)
    (folder / "own_xyz.py").write_text("class Params:\n    x: float = knob(default_of(), help='', source='')\nHIGH = 2\n")
    with pytest.raises(KdError, match=r"own_xyz.py: the knob x, which is computed"):
        anatomy.knobs("own_xyz")
    with pytest.raises(KdError, match=r"own_xyz.py: no LOSSES"):
        anatomy.losses("own_xyz")
    assert anatomy._value("own_xyz", ast.parse("HIGH * 10**3 + 1", mode="eval").body) == 2001


@pytest.mark.parametrize("recipe", replications.SCALES)
def test_specs_are_completed_without_torch_as_with_it(recipe: str, home: Home) -> None:
    found = [t.spec for table in literature.TABLES.values() for t in replications.trials(table, Scale(recipe, seeds=1), home)]
    found += [RunSpec(method="no_such"), RunSpec(method="base", teacher="resnet20", teacher_seed=3)]
    found += [RunSpec(method="kd", teacher="resnet20", combine={"method": "dml"}), RunSpec(method="ban", student="resnet14")]
    assert len(found) > 50
    for spec in found:
        light = completion.from_files(spec)
        assert light == check.resolve(spec) and light.identity() == check.resolve(spec).identity()


def test_recorded_sizes_are_those_of_the_networks() -> None:
    known = {size.key: size for size in sizes.of_catalogue()}
    recorded = sizes.recorded()
    assert {size.key for size in recorded} >= {"resnet8", "resnet20", "resnet110"}, "run python -m kdengine.sizes"
    assert [size for size in recorded if known.get(size.key) != size] == [], "run python -m kdengine.sizes"


def test_sizes_are_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "FILE", tmp_path / "sizes.json")
    made = [sizes.Size("a", "A", "plain", 3, 10, 20, (1, 2)), sizes.Size("b", "B", "plain", 5, 11, 21, ())]
    sizes.record(made)
    assert sizes.recorded() == made
