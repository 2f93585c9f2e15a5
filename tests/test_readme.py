"""What the README says is what the repository does."""

import json
import re
from pathlib import Path

import pytest

from experiments import compare, grid, lra
from gconv.training.match import parameters

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.S))
def test_its_python_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_its_quickstart_table_is_made_from_the_records():
    records = ROOT / "experiments/records/quickstart"
    results = [json.loads((records / mixer / "result.json").read_text()) for mixer in ("gconv", "attention")]
    assert compare.table(results) in README
    for result in results:  # what it says of both: far more than guessing
        low, _ = compare.wilson_interval(result["test_accuracy"], result["data"]["examples"]["test"])
        assert low > result["chance"] + 0.1


def test_the_files_and_commands_it_names_exist():
    pods = (ROOT / "docs/pods.md").read_text()
    for path in re.findall(r"`((?:configs|scripts|experiments|gconv|tests)/[\w/.]+)", README + pods):
        assert (ROOT / path).exists(), path
    assert not re.search(r"^(python -m|scripts/|source )", README, re.M)  # a command on a line of its own is indented
    for module in re.findall(r"python -m ([\w.]+)", README):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_the_sizes_of_checkpoints_are_those_of_the_models():
    cells = [(c, grid.config_of(points[0][0])) for r, c, points in grid.runs(lra.TABLE, "") if r == "gconv"]
    sizes = {task: round(16 * parameters(config) / 1e6) for task, config in cells}
    largest = sizes.pop("Path-X")
    said = f"{min(sizes.values())} to {max(sizes.values())} MB for the full models of gconv, {largest} for Path-X's"
    assert said in " ".join(README.split())
    (every,) = {config.checkpoint_every for _, config in cells}
    assert f"every {every:,} steps" in README


def test_the_table_of_first_steps_is_that_of_its_records():
    folder = ROOT / "experiments/records/first_steps"
    text = (folder / "README.md").read_text()
    for name, digits in (("listops", 2), ("image", 2), ("text", 3)):
        records = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        first, *_, last = (record for record in records if record["split"] == "train")
        losses = f"| {first['loss']:.{digits}f} → {last['loss']:.{digits}f} |"
        accuracies = f"| {100 * first['accuracy']:.1f} → {100 * last['accuracy']:.1f}%"
        row = next(line for line in text.splitlines() if f"`{name}.jsonl`" in line)
        assert losses in row and accuracies in row and f"| {last['step']}" in row


@pytest.mark.parametrize("name", ["ops", "step", "h100/ops"])
def test_its_speeds_are_those_of_the_records(name):
    record = (ROOT / f"experiments/records/benchmark/{name}.md").read_text()
    goals = record[record.index("| goal |") :]
    assert all(line in README for line in goals.splitlines()[2:])
