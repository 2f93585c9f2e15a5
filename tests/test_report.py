"""The report of finished and unfinished runs: a page and tables, from records alone."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gconv.errors import UserError
from gconv.report import chart, page, runs

RECORDS = Path(__file__).parent.parent / "experiments/records/quickstart"


def write(folder, name, steps, result=None, lr=0.1, **config):
    """A run of 100 steps that has come to some step."""
    path = folder / name
    path.mkdir()
    made = {"steps": 100, "seed": 0, "mixer": "gconv", "data": {"name": "listops"}, "optim": {"lr": lr}, **config}
    environment = {"command": name, "device": "a <device>", "devices": 4}
    for file, content in (("config", made), ("run", environment), ("data", {"name": "listops", "source": "a & b"})):
        (path / f"{file}.json").write_text(json.dumps(content))
    metrics, timings = [], []
    for step in range(10, steps + 1, 10):
        metrics.append({"step": step, "split": "train", "loss": 2 / step, "accuracy": 0.5, "grad_norm": 1, "lr": lr})
        metrics.append({"step": step, "split": "validation", "loss": 2 / step, "accuracy": step / 200})
        timings.append({"step": step, "examples": 80, "seconds": 2.0})
        timings.append({"step": step, "split": "validation", "evaluation": 0.5, "checkpoint": 0.25})
    for file, lines in (("metrics", metrics), ("timings", timings)):
        (path / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result is not None:
        (path / "result.json").write_text(json.dumps(result))
    return str(path)


RESULT = {
    **{"test_accuracy": 0.5, "chance": 0.1, "parameters": 1234, "peak_memory_bytes": 2**21},
    **{"flops_per_token": 10.0, "flops_per_token_direct": 25.0},
    "data": {"examples": {"test": 100}},
}


def rows(table):
    return [dict(zip(table.heads, row, strict=True)) for row in table.rows]


def test_the_tables_say_what_the_records_do(tmp_path):
    found = runs.read([write(tmp_path, "done", 100, RESULT), write(tmp_path, "half", 50, lr=0.2, momentum=1)])
    results, costs, differences = runs.tables(found)
    done, half = rows(results)
    assert (done["run"], done["state"]) == ("done", "finished, 100 of 100 steps")
    assert (done["test accuracy"], done["95% interval"], done["chance"]) == ("50.0%", "40.4 – 59.6%", "10.0%")
    assert (half["state"], half["test accuracy"]) == ("unfinished, 50 of 100 steps", "–")
    assert (half["best validation"], half["last training loss"]) == ("25.0%", "0.0400")
    done, half = rows(costs)
    assert (done["parameters"], done["peak memory"], done["examples/s"]) == ("1,234", "2 MiB", "40")
    assert (done["FLOPs/token"], done["with direct convolution"]) == ("10", "25")
    assert (done["training"], done["evaluation"], done["checkpoints"]) == ("20.0 s", "5.0 s", "2.5 s")
    assert done["lost"] == half["lost"] == "27.3%" and half["peak memory"] == "–"
    assert done["devices"] == "4 × a <device>"
    assert differences.rows == [["config.momentum", "–", "1"], ["config.optim.lr", "0.1", "0.2"]]
    assert len(runs.tables(found[:1])) == 2  # one run differs from nothing


def test_on_a_narrow_terminal_columns_follow_below_beside_the_first():
    table = runs.Table(
        "Runs", ["field", "a", "bb", "c"], [["lr", "0.1", "0.2", "0.3"], ["steps", "1", "2", "3"]], "All."
    )
    whole = "field    a   bb    c\nlr     0.1  0.2  0.3\nsteps    1    2    3"
    assert runs.as_text(table, 20) == f"Runs\n\n{whole}\n\nAll."
    halves = ["field    a   bb\nlr     0.1  0.2\nsteps    1    2", "field    c\nlr     0.3\nsteps    3"]
    assert runs.as_text(table, 19) == "\n\n".join(["Runs", *halves, "All."])
    assert runs.as_text(table, 1).count("field") == 3, "a column that is too wide stands alone"


def test_classes_are_told_by_their_names(tmp_path):
    mixers = ("gconv.models.mixers.attention.Attention", "mine.mixers.Attention")
    found = runs.read([write(tmp_path, name, 100, mixer=mixer) for name, mixer in zip("ab", mixers, strict=True)])
    assert ["config.mixer", "Attention", "mine.mixers.Attention"] in runs.tables(found)[2].rows


def test_a_run_that_has_only_begun_is_shown(tmp_path):
    found = runs.read([write(tmp_path, "begun", 0)])
    results, costs = runs.tables(found)
    assert rows(results)[0]["state"] == "unfinished, 0 of 100 steps"
    assert set(costs.rows[0][1:-1]) == {"–"}
    drawn = page.draw(found, [results, costs])
    assert "no record of Training loss (nats) yet" in drawn and "not recorded" in drawn


class Page(HTMLParser):
    """Checks that every tag is closed, and collects what is drawn and what is named from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)
        self.outside += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_and_needs_nothing_else(tmp_path):
    folders = [write(tmp_path, name, 100 - 8 * i, None) for i, name in enumerate("abcdefghi<")]
    found = runs.read([*folders, str(RECORDS / "gconv")])
    drawn = page.draw(found, runs.tables(found))
    parsed = Page()
    parsed.feed(drawn)
    assert not parsed.open and not parsed.outside and "url(" not in drawn and "<script" not in drawn
    text = "".join(parsed.text)
    assert "a <device>" in text and "listops, a & b" in text and "unfinished, 90 of 100 steps" in text
    charts = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg viewBox=\"0 0 460.*?</svg>", drawn, re.S)]
    assert len(charts) == 6
    lines = [line for line in charts[0].iter("polyline")]
    assert len(lines) == 11 and lines[9].find("title").text.endswith("<")
    styles = [line.get("class") for line in lines]
    assert len(set(styles)) == 11 and styles[0] == "s s0" and styles[8] == "s s0 dashed"
    assert "prefers-color-scheme: dark" in drawn and all(f".s{i} " in drawn for i in range(chart.COLOURS))


def test_a_line_goes_through_its_points():
    svg = ElementTree.fromstring(chart.draw([chart.Line("a", [(0, 1.0), (50, 3.0), (100, float("nan"))])], "loss"))
    points = [tuple(map(float, point.split(","))) for point in svg.find("polyline").get("points").split()]
    labels = {text.text: (float(text.get("x")), float(text.get("y"))) for text in svg.iter("text")}
    assert len(points) == 2  # what isn't finite has no place
    assert points[0][1] == pytest.approx(labels["1"][1] - 3.5, abs=0.1)
    assert points[1][1] == pytest.approx(labels["3"][1] - 3.5, abs=0.1)
    assert points[1][0] == pytest.approx(labels["50"][0], abs=0.1)


@pytest.mark.parametrize("low, high", [(0, 1), (1.23, 2.4), (0.0001, 0.003), (5, 5), (0, 0), (0, 80_000), (-3, 1e6)])
def test_ticks_are_few_and_hold_the_range(low, high):
    found = chart.ticks(low, high)
    assert found[0] <= low + 1e-9 and high <= found[-1] + 1e-9 * abs(high) and 2 <= len(found) <= 8
    assert len({chart.number(tick) for tick in found}) == len(found)


def test_a_long_line_is_thinned_and_keeps_its_end():
    points = [(float(step), 1.0) for step in range(100_001)]
    thinned = chart._thinned(points)
    assert len(thinned) <= chart.POINTS + 1 and thinned[0] == points[0] and thinned[-1] == points[-1]


def test_the_command(tmp_path):
    def report(*arguments):
        line = [sys.executable, "-m", "gconv.report", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, timeout=60)

    folder, output = write(tmp_path, "done", 100, RESULT), tmp_path / "page.html"
    done = report(folder, f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert "done  finished, 100 of 100 steps" in done.stdout and f"the page: {output}" in done.stdout
    assert output.read_text().startswith("<!DOCTYPE html>")
    failed = report(folder, f"--output={tmp_path}/none/page.html")
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1
    assert "none/page.html can't be written: No such file" in failed.stderr
    with pytest.raises(UserError, match=f"{tmp_path} holds no run that has started: it has no config"):
        runs.read([folder, str(tmp_path)])
    other = write(tmp_path, "diverged", 10)
    (Path(other) / "failed").write_text("step 2: loss is nan\n")
    assert "failed: step 2: loss is nan, 10 of 100 steps" in report(other, f"--output={output}").stdout
    for other in ("[1]", "{}"):
        (tmp_path / "config.json").write_text(other)
        with pytest.raises(UserError, match=f"{tmp_path} holds no run: its config.json isn't one of gconv's"):
            runs.read([str(tmp_path)])
