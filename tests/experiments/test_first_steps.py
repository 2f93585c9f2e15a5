"""The full setting's models, at full size for a few steps."""

import json

import pytest

from configs import listops
from experiments import first_steps, grid, lra
from experiments.grid import RECORDS
from gconv.errors import UserError


def test_a_model_learns_its_one_batch():
    row = first_steps.measure(listops.get_config("gconv,smoke"), batch=4, steps=4, most_bytes=2**30)
    assert len(row["losses"]) == 4 and row["losses"][-1] < row["losses"][0]
    assert row["length"] == 32 and row["parameters"] > 0 and row["bytes"] > 0


def test_a_model_that_is_too_large_is_compiled_only():
    row = first_steps.measure(listops.get_config("gconv,smoke"), batch=4, steps=4, most_bytes=1000)
    assert row["losses"] is None
    record = {"device": "D", "rows": [{"task": "T", "model": "M", **row}]}
    assert "not run: too much memory" in first_steps.table(record)


def test_what_is_known_of_other_tasks_stays(tmp_path):
    path = tmp_path / "record.json"
    assert first_steps._known(path, "D") == {}
    path.write_text(json.dumps({"device": "D", "rows": [{"task": "Text", "model": "gconv", "losses": None}]}))
    assert first_steps._known(path, "D")["Text", "gconv"]["losses"] is None
    with pytest.raises(UserError, match=r"record\.json is of D, not E: measure all"):
        first_steps._known(path, "E")


def test_the_record_has_every_cell_and_every_loss_fell():
    path = RECORDS / "first_steps" / "full_setting.json"
    record = json.loads(path.read_text())
    cells = {(row["task"], row["model"]) for row in record["rows"]}
    assert cells == {(task, model) for task in lra.CONFIGS for model in lra.TABLE.rows}
    made = {(column, row): grid.config_of(points[0][0]) for row, column, points in grid.runs(lra.TABLE, "")}
    assert len(cells) == 30 and sorted(len(row["losses"]) for row in record["rows"]) == [2] + 29 * [
        3
    ]  # says the README
    for row in record["rows"]:
        assert row["losses"][-1] < row["losses"][0], row
        config = made[row["task"], row["model"]]
        assert config.model.norm != "batch" or row["batch"] > 1
        sizes = (config.data.length, config.model.layers, config.model.features, config.model.norm)
        assert sizes == (row["length"], row["layers"], row["features"], row["norm"]), row
    assert path.with_suffix(".md").read_text() == first_steps.table(record)
