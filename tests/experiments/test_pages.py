import json

import pytest

from experiments import pages
from experiments.grid import RECORDS
from gconv.errors import UserError


@pytest.mark.parametrize("page", pages.pages(), ids=lambda path: path.name)
def test_every_table_of_a_page_is_that_of_its_record(page):
    text = page.read_text()
    assert pages.filled(text, page) == text


def test_a_block_is_filled_and_a_missing_record_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RECORDS", tmp_path)
    (tmp_path / "x.md").write_text("new\n")
    text = "a\n<!-- x.md -->\nold\n<!-- end -->\nb\n"
    assert pages.filled(text, tmp_path / "page") == "a\n<!-- x.md -->\nnew\n<!-- end -->\nb\n"
    with pytest.raises(UserError, match=r"page: .*y.md is missing"):
        pages.filled(text.replace("x.md", "y.md"), tmp_path / "page")


def test_what_the_answer_says_of_cost_is_in_the_records():
    rows = json.loads((RECORDS / "benchmark/ops.json").read_text())["rows"]
    for length in {row["length"] for row in rows}:
        here = [row for row in rows if row["length"] == length]
        attention = [row["gradient"] for row in here if "attention" in row["method"]]
        ours = [row["gradient"] for row in here if row["method"] == "global_conv bcl"]
        assert len(ours) == 3 and bool(attention) == (length <= 1024)
        assert not attention or max(ours) < min(attention), length
    steps = json.loads((RECORDS / "benchmark/step.json").read_text())["rows"]
    for length, times in ((512, 9), (1024, 21)):
        of = {row["model"]: row["seconds"] for row in steps if row["length"] == length and "task" not in row}
        assert round(of["attention"] / of["gconv"]) == times
