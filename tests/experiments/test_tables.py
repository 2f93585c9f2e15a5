"""Tables of runs: which runs there are, in what order they are made, and what is said of them."""

import fcntl
import functools
import itertools
import json
import re
import shlex
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from experiments import depth, grid, run, table, width
from experiments.grid import Part, Table
from gconv.errors import UserError
from gconv.training import match
from gconv.training.match import parameters

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("*.py") if "\nTABLE = " in path.read_text())
SMALL = Table(
    title="Two mixers",
    rows={"a": Part("gconv,diagonal"), "b": Part("attention", {"model.layers": 1})},
    columns={"ListOps": Part("listops", {"data.limit": 8})},
    sweep=({"optim.lr": 0.1}, {"optim.lr": 0.2}),
)


def result(val, test, **more):
    made = {"val_accuracy": val, "test_accuracy": test, "chance": 0.1, "parameters": 1000, "device": "a CPU"}
    made |= {"flops_per_token": 10.0, "flops_per_token_direct": 20.0, "examples_per_second": 5.0}
    return {**made, "data": {"name": "listops", "source": "made up"}, **more}


def finish(root, which, val, test):
    folder = which.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result(val, test)))
    made = ConfigDict({"data": {}, "optim": {}, "model": {}})
    for field, value in {**which.overrides, **which.swept, "seed": which.seed}.items():
        section, _, name = field.rpartition(".")
        (made[section] if section else made)[name] = value
    (folder / "config.json").write_text(made.to_json())
    command = shlex.join(["python", "-m", "gconv.main", *which.command(root)])
    (folder / "run.json").write_text(json.dumps({"command": command}))
    lines = ['{"step": 1, "examples": 8, "seconds": 1.5}', '{"step": 1, "split": "test", "evaluation": 9.0}']
    (folder / "timings.jsonl").write_text("".join(f"{line}\n" for line in lines))


def records(scores, state="finished"):
    """Records of one column: scores[row] are the test accuracies of the seeds."""
    return [
        {"row": row, "column": "ListOps", "seed": seed, "swept": {}, "selected": True, "state": state}
        | ({"result": result(0.5, test, train_seconds=3600.0)} if state == "finished" else {})
        for row, tests in scores.items()
        for seed, test in enumerate(tests)
    ]


def test_a_run_is_a_command_and_has_a_folder_of_its_own(tmp_path):
    every = [r for _, _, points in grid.runs(SMALL, "small") for point in points for r in point]
    assert len(every) == 2 * 2 * 3 == len({r.folder(tmp_path) for r in every})
    assert every[4].command(Path("out")) == [
        "--config=configs/listops.py:gconv,small,diagonal",
        "--workdir=out/ListOps/a/lr=0.2/seed1",
        "--config.data.limit=8",
        "--config.optim.lr=0.2",
        "--config.seed=1",
    ]
    assert every[-1].config == "configs/listops.py:attention,small" and every[-1].overrides["model.layers"] == 1
    full = next(iter(grid.runs(SMALL, "")))[2][0][0]
    assert full.config == "configs/listops.py:gconv,diagonal"


def test_records_of_runs_that_were_made_elsewhere_are_kept(tmp_path):
    one = SMALL._replace(sweep=({},))
    collected = functools.partial(grid.collect, one, "small")
    (a,), (b,) = (points for _, _, points in grid.runs(one, "small"))
    for made in (*a, b[0]):
        finish(tmp_path / "here", made, 0.3, 0.5)
    for made in (a[0], *b):
        finish(tmp_path / "there", made, 0.3, 0.6)
    both = collected(tmp_path / "there", collected(tmp_path / "here"))
    assert [(r["row"], r["seed"], r["result"]["test_accuracy"]) for r in both] == [
        ("a", 0, 0.6), ("a", 1, 0.5), ("a", 2, 0.5), ("b", 0, 0.6), ("b", 1, 0.6), ("b", 2, 0.6),
    ]  # fmt: skip
    assert collected(None, both) == both  # nothing is lost to a folder that lacks it
    (a[0].folder(tmp_path / "failing") / "failed").parent.mkdir(parents=True)
    (a[0].folder(tmp_path / "failing") / "failed").write_text("why")
    assert collected(tmp_path / "failing", both) == both  # or where it failed
    assert collected(tmp_path / "failing")[0]["state"] == "failed"
    other = one._replace(columns={"ListOps": Part("listops", {"data.limit": 9})})
    assert {r["state"] for r in grid.collect(other, "small", known=both)} == {"not run"}  # those were other runs


def test_what_a_sweep_had_decided_outlives_another_point(tmp_path):
    for _, _, points in grid.runs(SMALL, "small"):
        for made, val in ((points[0][0], 0.3), *((seed, 0.4) for seed in points[1])):
            finish(tmp_path, made, val, 0.5)
    known = grid.collect(SMALL, "small", tmp_path)
    wider = SMALL._replace(sweep=(*SMALL.sweep, {"optim.lr": 0.3}))
    kept = grid.collect(wider, "small", known=known)
    assert [r for r in kept if r["state"] == "finished"] == [{**r, "selected": False} for r in known]
    assert grid.collect(SMALL, "small", known=kept) == known


def test_a_file_that_holds_something_else_is_named(tmp_path):
    (tmp_path / "small.jsonl").write_text('{"row": "a"}\n{"row"')
    with pytest.raises(UserError, match=r"small.jsonl, line 1 is no record of a run: 'column'"):
        grid.records_of(tmp_path / "small.jsonl")
    whole = (ROOT / "experiments/records/depth/small.jsonl").read_text()
    (tmp_path / "small.jsonl").write_text(whole + '{"row"')
    with pytest.raises(UserError, match=rf"small.jsonl, line {whole.count(chr(10)) + 1} is no record of a run"):
        grid.records_of(tmp_path / "small.jsonl")
    (tmp_path / "small.jsonl").write_text(whole)
    done = subprocess.run(
        [sys.executable, "-m", "experiments.table", "share", f"--output={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "small.jsonl holds records of other runs than share's" in done.stderr
    assert (tmp_path / "small.jsonl").read_text() == whole


def test_an_interval_beyond_what_there_is_gives_way_to_the_range():
    def cell(*accuracies):
        return table.Cell("", dict(enumerate(accuracies)), [], 0, len(accuracies))

    assert table.shown(cell(0.16, 0.99, 0.99)) == "71.3 (16.0 to 99.0)"
    assert table.shown(cell(0.999, 1.0, 0.998)) == "99.9 ± 0.2"


def test_a_run_of_other_fields_is_not_the_tables(tmp_path):
    wanted = run.missing(SMALL, "small", tmp_path)[0]
    finish(tmp_path, wanted._replace(overrides={"data.limit": 9}), 0.3, 0.9)
    assert grid.record(wanted, tmp_path)["state"] == "not run"
    finish(tmp_path, wanted._replace(config="configs/listops.py:gconv,small"), 0.3, 0.9)
    assert grid.record(wanted, tmp_path)["state"] == "not run"
    finish(tmp_path, wanted, 0.3, 0.9)
    assert grid.record(wanted, tmp_path)["state"] == "finished"
    assert grid.record(wanted._replace(config=f"{wanted.config},match=time"), tmp_path)["state"] == "finished"


def test_validation_with_the_first_seed_decides_which_seeds_are_run(tmp_path):
    first = run.missing(SMALL, "small", tmp_path)
    assert [(r.row, r.seed, r.swept["optim.lr"]) for r in first] == [("a", 0, 0.1), ("a", 0, 0.2), ("b", 0, 0.1),
                                                                   ("b", 0, 0.2)]  # fmt: skip
    assert len(run.still_to_come(SMALL, "small", tmp_path)) == 8
    finish(tmp_path, first[0], val=0.3, test=0.9)
    finish(tmp_path, first[1], val=0.4, test=0.2)  # better on validation, whatever the test says
    then = run.missing(SMALL, "small", tmp_path)
    assert [(r.row, r.seed, r.swept["optim.lr"]) for r in then] == [("a", 1, 0.2), ("a", 2, 0.2), ("b", 0, 0.1),
                                                                  ("b", 0, 0.2)]  # fmt: skip
    kept = grid.collect(SMALL, "small", tmp_path)
    assert [(r["seed"], r["state"]) for r in kept if r["selected"]] == [(0, "finished"), (1, "not run"), (2, "not run")]
    assert kept[0]["result"]["train_seconds"] == 1.5 and not kept[0]["selected"]


def test_commands_count_what_failed(tmp_path, capsys):
    first, *others = run.missing(SMALL, "small", tmp_path)
    first.folder(tmp_path).mkdir(parents=True)
    (first.folder(tmp_path) / "failed").write_text("why")
    run.print_commands(SMALL, "small", tmp_path, "data")
    told = capsys.readouterr()
    assert told.out.count("\n") == len(others) and "not listed: 1 that failed" in told.err


def test_a_run_that_starts_from_another_waits_for_it(tmp_path):
    first, then = (Part("listops", {"data.length": length}) for length in (8, 16))
    staged = SMALL._replace(columns={"8": first, "16": then}, sweep=({},), starts_from={"16": "8"})
    waiting = run.missing(staged, "small", tmp_path)
    assert {r.column for r in waiting} == {"8"} and len(waiting) == 6
    assert not any("init_from" in part for part in run.arguments(waiting[4], staged, tmp_path, "data"))
    finish(tmp_path, waiting[4], val=0.3, test=0.3)
    assert len(run.still_to_come(staged, "small", tmp_path)) == 11
    (ready,) = [r for r in run.missing(staged, "small", tmp_path) if r.column == "16"]
    assert (ready.row, ready.seed) == (waiting[4].row, waiting[4].seed) == ("b", 1)
    assert run.arguments(ready, staged, tmp_path, "data")[-2:] == [
        f"--config.init_from={waiting[4].folder(tmp_path)}",
        "--config.data_dir=data",
    ]
    alone = staged._replace(columns={"16": then})  # as --columns makes it
    assert run.missing(alone, "small", tmp_path) == [ready]


def test_the_finished_runs_of_the_best_points_are_measured(tmp_path, monkeypatch, capsys):
    every = [r for _, _, points in grid.runs(SMALL, "small") for point in points for r in point]
    for which in every:
        if (which.row, which.seed) != ("b", 2):
            finish(tmp_path / "t/small", which, val=which.swept["optim.lr"], test=0.5)
        else:
            which.folder(tmp_path / "t/small").mkdir(parents=True)
            (which.folder(tmp_path / "t/small") / "failed").write_text("why")
    best = [r.folder(tmp_path / "t/small") for r in every if r.swept["optim.lr"] == 0.2][:-1]
    assert grid.finished(SMALL, "small", tmp_path / "t/small") == best
    measured = []
    monkeypatch.setattr(run.grid, "table", lambda name: SMALL._replace(measure=lambda *given: measured.append(given)))
    monkeypatch.setattr(run, "run_all", lambda *_: 0)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    given = {"workdir": str(tmp_path), "preset": "small", "columns": None, "output": str(tmp_path / "out")}
    given |= {"jobs": 1, "data_dir": "data", "dry_run": False, "commands": False}
    monkeypatch.setattr(run.flags, "FLAGS", types.SimpleNamespace(**given))
    run.main(["run", "t"])
    assert measured == [(best, tmp_path / "out")] and (tmp_path / "out").is_dir()
    (best[0] / "result.json").unlink()
    with pytest.raises(SystemExit):  # as where a run waits for one of another column
        run.main(["run", "t"])
    assert len(measured) == 1 and "the other runs made, 0 failed, 1 wait for runs" in capsys.readouterr().out


RUNNER = """
import sys, json, pathlib
folder = pathlib.Path(next(a for a in sys.argv if a.startswith("--workdir=")).partition("=")[2])
seed = int(sys.argv[-2].rpartition("=")[2])
print("error: no luck")
if "/b/" in str(folder) and seed == 1:
    sys.exit(2)
(folder / "timings.jsonl").write_text("")
config = {}
for field, _, value in (a.removeprefix("--config.").partition("=") for a in sys.argv if a.startswith("--config.")):
    *sections, name = field.split(".")
    inner = config
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[name] = value if name == "data_dir" else json.loads(value)
(folder / "config.json").write_text(json.dumps(config))
command = " ".join(["python -m gconv.main", *sys.argv[1:]])
(folder / "run.json").write_text(json.dumps({"command": command}))
(folder / "result.json").write_text(json.dumps({"val_accuracy": 0.5, "test_accuracy": 0.4, "parameters": 7}))
"""


def test_everything_missing_is_run_and_a_failure_is_named(tmp_path, monkeypatch, capsys):
    fake = tmp_path / "fake.py"
    fake.write_text(RUNNER)
    popen = subprocess.Popen
    monkeypatch.setattr(run.subprocess, "Popen", lambda command, **k: popen([sys.executable, fake, *command[3:]], **k))
    assert run.run_all(SMALL, "small", tmp_path, jobs=2, data_dir="data") == 1
    said = capsys.readouterr().err
    assert "ListOps | b | lr 0.1, seed 1: FAILED: exit status 2: error: no luck" in said and "0 runs left" in said
    states = [r["state"] for r in grid.collect(SMALL, "small", tmp_path)]
    assert states.count("finished") == 7 and states.count("failed") == 1
    fake.write_text(RUNNER.replace("sys.exit(2)", "pass"))
    assert run.run_all(SMALL, "small", tmp_path, jobs=2, data_dir="data") == 0
    assert capsys.readouterr().err.count("test 40.0%") == 1  # only what had failed


def test_a_point_that_crashed_decides_no_sweep_and_one_that_diverged_does(tmp_path, monkeypatch, capsys):
    fake = tmp_path / "fake.py"
    fails = 'if "lr=0.2" in str(folder):\n    {}sys.exit({})\n(folder / "timings.jsonl")'
    popen = subprocess.Popen
    monkeypatch.setattr(run.subprocess, "Popen", lambda command, **k: popen([sys.executable, fake, *command[3:]], **k))
    swept = SMALL._replace(rows={"a": SMALL.rows["a"]}, sweep=({"optim.lr": 0.1}, {"optim.lr": 0.2}))
    fake.write_text(RUNNER.replace('(folder / "timings.jsonl")', fails.format("", 137)))
    assert run.run_all(swept, "small", tmp_path, jobs=2, data_dir="data") == 1
    states = [(r["state"], r["selected"]) for r in grid.collect(swept, "small", tmp_path)]
    assert states == [("finished", False)] + [("not run", False)] * 2 + [("failed", False)]
    assert "FAILED: exit status 137: error: no luck" in capsys.readouterr().err
    (cell,) = table.cells(grid.collect(swept, "small", tmp_path)).values()
    assert table.shown(cell) == "failed, not run" and cell.failed == 1
    own = '(folder / "failed").write_text("step 3: loss is nan"); '
    fake.write_text(RUNNER.replace('(folder / "timings.jsonl")', fails.format(own, 2)))
    elsewhere = tmp_path / "Text/a/failed"  # of a column that isn't asked for
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text("why")
    assert run.run_all(swept, "small", tmp_path, jobs=2, data_dir="data") == 1
    states = [(r["state"], r["selected"]) for r in grid.collect(swept, "small", tmp_path)]
    assert states == [("finished", True)] * 3 + [("failed", False)]
    assert "FAILED: step 3: loss is nan" in capsys.readouterr().err and elsewhere.exists()


def test_a_cell_is_a_mean_with_its_t_interval():
    cell = table.cells(records({"a": [0.40, 0.42, 0.44]}))["a", "ListOps"]
    assert cell.mean == pytest.approx(0.42)
    assert cell.half == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-4)  # Student's t of 2 degrees of freedom
    assert table.shown(cell) == "42.0 ± 5.0"
    assert table.shown(table.cells(records({"a": [0.4]}))["a", "ListOps"]) == "40.0"
    assert table.shown(table.cells(records({"a": [0, 0]}, "not run"))["a", "ListOps"]) == "not run"
    assert table.shown(table.cells(records({"a": [0]}, "failed"))["a", "ListOps"]) == "failed"
    partly = records({"a": [0.4, 0.5]}) + [r | {"seed": 2} for r in records({"a": [0]}, "failed")]
    assert table.shown(table.cells(partly)["a", "ListOps"]).endswith("(1 failed of 3 seeds)")


@pytest.mark.parametrize("scores, best", [
    ({"a": [0.5, 0.52, 0.51], "b": [0.4, 0.43, 0.41]}, "a"),
    ({"a": [0.5, 0.6, 0.3], "b": [0.4, 0.43, 0.41]}, None),  # within the noise of the seeds
    ({"a": [0.5, 0.6, 0.3], "b": [0.48, 0.58, 0.28]}, "a"),  # the seeds' noise is common to both: paired, it is sure
    ({"a": [0.5, 0.5], "b": [0.5, 0.5]}, None),
    ({"a": [0.5], "b": [0.1]}, None),
    ({"a": [0.5, 0.52, 0.51]}, None),
    ({"a": [0.5, 0.52, 0.51], "b": [0.4, 0.43, 0.41], "c": []}, None),  # which might be better
])  # fmt: skip
def test_the_best_is_marked_only_where_it_is_sure(scores, best):
    unrun = [r for row in scores if not scores[row] for r in records({row: [0, 0, 0]}, "not run")]
    cells = table.cells(records(scores) + unrun)
    assert table.winner({row: cells[row, "ListOps"] for row in scores}) == best


def test_a_column_of_which_nothing_was_run_stands_below_the_table():
    other = [{**r, "column": "Chess", "state": "not run"} for r in records({"a": [0, 0, 0], "b": [0, 0, 0]})]
    made = [*records({"a": [0.5, 0.6, 0.3], "b": [0.4, 0.4, 0.4]}), *other]
    heads, lines = table.lines_of(made, SMALL)
    assert heads[1] == "ListOps (%)" and not any("Chess" in head or "not run" in head for head in heads)
    assert len(lines[0]) == len(heads) and "not run" not in str(lines)
    assert "\nNot run: Chess." in table.markdown(made, SMALL)
    assert table.latex(made, SMALL).startswith("% Not run: Chess\n\\begin{tabular}{lrrrrr}\n")
    failed = [{**other[0], "state": "failed"}, *other[1:]]
    assert "Chess (%)" in table.lines_of([*made[:6], *failed], SMALL)[0]


def test_nothing_is_marked_where_the_control_guesses():
    cells = table.cells(records({"a": [0.5, 0.51, 0.52], "b": [0.11, 0.12, 0.1], "c": [0.3, 0.31, 0.3]}))
    column = {row: cell for (row, _), cell in cells.items()}
    assert table.winner(column) == table.winner(column, ("c",)) == table.winner(column, ("b", "c")) == "a"
    assert table.winner(column, ("b",)) is None


def test_a_sweep_that_has_decided_nothing_leaves_the_output_as_it_is(tmp_path, monkeypatch):
    finish(tmp_path / "t/small", run.missing(SMALL, "small", tmp_path)[0], val=0.3, test=0.9)
    monkeypatch.setattr(table.grid, "table", lambda name: SMALL)
    given = {"workdir": str(tmp_path), "preset": "small", "output": str(tmp_path / "out")}
    monkeypatch.setattr(table.flags, "FLAGS", types.SimpleNamespace(**given))
    with pytest.raises(UserError, match=r"no cell of t has a result in .*; --output is left as it is"):
        table.main(["table", "t"])
    assert not (tmp_path / "out").exists()
    table.flags.FLAGS.output = None
    table.main(["table", "t"])
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["small"]


def test_committed_records_leave_what_the_output_has_of_other_runs(tmp_path, monkeypatch):
    one = SMALL._replace(sweep=({},))
    first, *_, last = run.missing(one, "small", tmp_path)
    for name, which, val in (("committed", first, 0.3), ("own", last, 0.4)):
        finish(tmp_path / name / "t/small", which, val=val, test=0.9)
        made = grid.collect(one, "small", tmp_path / name / "t/small")
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in made))
    (tmp_path / "out").mkdir()
    (tmp_path / "own.jsonl").rename(tmp_path / "out/small.jsonl")
    monkeypatch.setattr(table.grid, "table", lambda name: one)
    monkeypatch.setattr(table.grid, "records_path", lambda name, preset: tmp_path / "committed.jsonl")
    given = {"workdir": None, "preset": "small", "output": str(tmp_path / "out")}
    monkeypatch.setattr(table.flags, "FLAGS", types.SimpleNamespace(**given))
    table.main(["table", "t"])
    kept = [r for r in grid.records_of(tmp_path / "out/small.jsonl") if r["state"] == "finished"]
    assert [r["result"]["val_accuracy"] for r in kept] == [0.3, 0.4]
    (tmp_path / "committed.jsonl").write_text(json.dumps({**kept[0], "config": "another"}) + "\n")
    table.flags.FLAGS.output = str(tmp_path / "new")
    with pytest.raises(UserError, match=r"no cell of t has a result in .*committed.jsonl yet; --output is left as it"):
        table.main(["table", "t"])
    assert not (tmp_path / "new").exists()


def test_a_table_stands_beside_its_runs(tmp_path, monkeypatch, capsys):
    one = SMALL._replace(sweep=({},))
    finish(tmp_path / "t/small", run.missing(one, "small", tmp_path)[0], val=0.3, test=0.9)
    monkeypatch.setattr(table.grid, "table", lambda name: one)
    given = {"workdir": str(tmp_path), "preset": "small", "output": None}
    monkeypatch.setattr(table.flags, "FLAGS", types.SimpleNamespace(**given))
    table.main(["table", "t"])
    ends = {path.suffix for path in (tmp_path / "t").iterdir() if path.is_file()}
    assert ends == {".jsonl", ".md", ".tex", ".csv", ".png"}
    said = capsys.readouterr()
    assert (tmp_path / "t/small.md").read_text() == said.out.rstrip(
        "\n"
    ) + "\n" and f"written to {tmp_path}/t" in said.err


def test_the_table_in_its_three_forms(tmp_path):
    made = records({"a": [0.5, 0.52, 0.51], "b": [0.4, 0.43, 0.41]})
    points = [{"model.norm": "batch", "optim.lr": rate, "optim.kernel_lr": rate} for rate in (0.1, 0.2)]
    tried = [{**r, "swept": point, "selected": point is points[1]} for r in made for point in points]
    assert "out of (norm, lr, kernel_lr, equal ones once): batch, 0.1; batch, 0.2." in table.facts(tried, SMALL)
    assert "| a | **51.0 ± 2.5** | batch, 0.2 | 1,000 |" in table.markdown(tried, SMALL)
    assert 'a,ListOps,"batch, 0.2",0.51000,' in table.as_csv(tried, SMALL)
    text = table.markdown(made, SMALL)
    assert "| a | **51.0 ± 2.5** | 1,000 | 10 | 20 | 5 |" in text and "| b | 41.3 ± 3.8 |" in text
    assert "| guessing | 10.0 |" in text and "out of" not in text  # of a sweep that these records don't know
    assert "6 runs, 6.0 hours of training on a CPU." in text
    assert r"a & \textbf{51.0 $\pm$ 2.5} & 1,000 & 10 & 20 & 5 \\" in table.latex(made, SMALL)
    head, first, second = table.as_csv(made, SMALL).splitlines()
    assert head.startswith("row,column,chosen,mean,half,best,finished,failed,seeds,chance,parameters,")
    assert first == "a,ListOps,,0.51000,0.02484,True,3,0,3,0.1,1000,10.0,20.0,5.0"
    assert second.startswith("b,ListOps,,0.41333,0.03795,False,3,0,3,")
    table.draw(made, SMALL, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


@pytest.mark.parametrize("name", NAMES)
def test_every_row_and_every_column_of_every_table_has_a_config_that_builds(name):
    made = grid.table(name)
    assert len(made.seeds) >= 3 and not any("," in column for column in made.columns)  # --columns is a list
    first_row, first_column = next(iter(made.rows)), next(iter(made.columns))
    for preset in ("small", ""):
        for row, column, points in grid.runs(made, preset):
            chosen = points[-1][0]
            if row != first_row and column != first_column:
                continue  # its parts are built, and that its fields are the config's the next test asks
            if "match=time" in chosen.config or ("match=" in chosen.config and not preset):
                continue  # the same code, but seconds each
            assert parameters(grid.config_of(chosen)) > 0


@pytest.mark.parametrize("name", NAMES)
def test_in_the_full_setting_no_cell_stands_twice_and_runs_outlast_their_warm_up(name):
    found = []
    for _, _, points in grid.runs(grid.table(name), ""):
        run, sizes = points[0][0], re.findall(r",((?:match|layers)=\w+)", points[0][0].config)
        config = grid.config_of(grid.unmatched(run))
        assert config.steps > config.optim.warmup_steps
        found.append((*sizes, config.to_json(sort_keys=True)))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("preset", ["small", ""])
def test_the_rows_of_a_table_differ(preset):
    for name in NAMES:
        made = grid.table(name)
        of_column: dict[str, list[str]] = {}
        for _, column, points in grid.runs(made, preset):
            if "match=" not in points[0][0].config and "layers=" not in points[0][0].config:
                of_column.setdefault(column, []).append(grid.config_of(points[0][0]).to_json())
        for column, configs in of_column.items():
            assert len(set(configs)) == len(configs), (name, column)


@pytest.mark.parametrize("preset", ["small", ""])
def test_depths_have_equal_parameters(preset):
    configs = [grid.config_of(points[0][0]) for _, _, points in grid.runs(depth.TABLE, preset)]
    assert [config.model.layers for config in configs] == [1, 2, 6, 12, 24]
    counts = [parameters(config) for config in configs]
    assert max(counts) / min(counts) < 1.08


def test_a_run_of_the_same_time_has_one_width_that_a_process_of_its_own_finds(tmp_path, monkeypatch):
    sweep = ({"optim.lr": 1e-3}, {"optim.lr": 1e-2})
    table = SMALL._replace(rows={"c": Part("gconv,match=time")}, sweep=sweep)
    runs = [r for _, _, points in grid.runs(table, "small") for point in points for r in point]
    assert len({(r.seed, *r.swept.values()) for r in runs}) == len(runs) > 3
    widths = itertools.count(40)
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: timed(width=next(widths)))
    for r in runs:
        r.folder(tmp_path).mkdir(parents=True)
        assert "--config.model.features=40" in run._settled(r, tmp_path).command(tmp_path)
        assert "--config=configs/listops.py:gconv,small" in run._settled(r, tmp_path).command(tmp_path)
    assert run._settled(runs[0]._replace(config="configs/listops.py:gconv"), tmp_path).overrides == runs[0].overrides


def timed(width):
    return subprocess.CompletedProcess([], 0, stdout=f"{width}\n", stderr="")


def test_a_width_that_is_not_found_is_named(tmp_path):
    r = grid.Run("a", "ListOps", 0, {}, "configs/listops.py:conv,small,match=time", {})
    with pytest.raises(UserError, match=r"ListOps \| a: its width wasn't found: .*conv"):
        run._settled(r, tmp_path)


def test_the_process_that_times_prints_the_width(monkeypatch, capsys):
    """As many devices as the run will have, before anything is timed."""
    monkeypatch.setattr(width.sharding, "split_over_cores", lambda config: print(config.batch_size))
    monkeypatch.setattr(
        grid, "config_of", lambda r: ConfigDict({"batch_size": 6, "model": {"features": len(r.config)}})
    )
    r = grid.Run("a", "ListOps", 0, {}, "configs/listops.py:gconv,match=time", {})
    width.main(["width", json.dumps(r._asdict())])
    assert capsys.readouterr().out == f"6\n{len(r.config)}\n"


def test_a_column_of_a_task_that_has_no_config_is_named():
    with pytest.raises(UserError, match=r"^Chess \| gconv: No module named 'configs.chess'$"):
        grid.check(SMALL._replace(rows={"gconv": Part("gconv")}, columns={"Chess": Part("chess")}), "small")


def test_a_dry_run_times_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(match, "compiled_step", lambda *_: pytest.fail("a step was compiled"))
    table = SMALL._replace(rows={"c": Part("gconv,match=time")}, sweep=({},))
    run.print_missing(table, "listed", "", tmp_path)
    assert "seed 0: unknown" in capsys.readouterr().out


def test_runs_whose_width_is_timed_are_not_listed_for_others(tmp_path, monkeypatch, capsys):
    rows = {"a": Part("gconv"), "c": Part("gconv,match=time")}
    monkeypatch.setattr(run.grid, "table", lambda name: SMALL._replace(rows=rows, sweep=({},)))
    given = {"workdir": str(tmp_path), "preset": "small", "columns": None, "data_dir": "data", "commands": True}
    given["dry_run"] = False
    monkeypatch.setattr(run.flags, "FLAGS", types.SimpleNamespace(**given))
    run.main(["run", "t"])
    listed, said = capsys.readouterr()
    assert len(listed.splitlines()) == 3 and "match=time" not in listed
    assert "not listed: 3 runs whose width is found by timing" in said
    (tmp_path / "t/small/ListOps/c").mkdir(parents=True)
    (tmp_path / "t/small/ListOps/c/width.json").write_text("44")
    run.main(["run", "t"])
    listed, said = capsys.readouterr()
    assert listed.count("--config.model.features=44") == 3 and len(listed.splitlines()) == 6 and not said


def test_a_run_that_another_runner_makes_has_not_failed(tmp_path, capsys):
    mine = run.missing(SMALL, "small", tmp_path)[0]
    mine.folder(tmp_path).mkdir(parents=True)
    with (mine.folder(tmp_path) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run._finished(mine, types.SimpleNamespace(returncode=2), tmp_path) == 0
    assert "is being made by another runner" in capsys.readouterr().err
    assert not (mine.folder(tmp_path) / "failed").exists()


def test_a_runner_waits_for_runs_that_outlived_it(tmp_path, monkeypatch):
    first = run.missing(SMALL, "small", tmp_path)[0]
    held = first.folder(tmp_path)
    held.mkdir(parents=True)
    holding = [
        sys.executable,
        "-c",
        "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.flock(f,2); print(flush=True); input()",
    ]
    with subprocess.Popen([*holding, held / ".lock"], stdin=-1, stdout=-1, text=True) as other:
        other.stdout.readline()
        fake = tmp_path / "fake.py"
        fake.write_text(RUNNER.replace("/b/", "/none/"))
        popen = subprocess.Popen
        monkeypatch.setattr(
            run.subprocess, "Popen", lambda command, **k: popen([sys.executable, fake, *command[3:]], **k)
        )

        def slept(seconds):
            if len(list(tmp_path.rglob("result.json"))) == 5:  # all that can be made without the run that is held
                assert not (held / "log.txt").exists()
                finish(tmp_path, first, val=0.4, test=0.4)
                other.terminate()
            time.sleep(0.02)

        monkeypatch.setattr(run, "time", types.SimpleNamespace(monotonic=time.monotonic, sleep=slept))
        assert run.run_all(SMALL, "small", tmp_path, jobs=2, data_dir="data") == 0
    assert not (held / "log.txt").exists()
    assert len(run.still_to_come(SMALL, "small", tmp_path)) == 0


KILLED = """
import subprocess, sys
from pathlib import Path

sys.path[:0] = sys.argv[1:2]
import test_tables
from experiments import run

fake, popen = sys.argv[2], subprocess.Popen
run.subprocess.Popen = lambda command, **k: popen([sys.executable, fake, *command[3:]], **k)
run.run_all(test_tables.SMALL, "small", Path(fake).parent, jobs=2, data_dir="data")
"""


def test_a_killed_runner_goes_on_where_it_was(tmp_path, monkeypatch):
    fake = tmp_path / "fake.py"
    counted = RUNNER.replace('print("error: no luck")', 'print("made")').replace("/b/", "/none/")
    fake.write_text(counted + f"\nimport time; time.sleep(0.2)  # in {tmp_path}\n")
    with subprocess.Popen([sys.executable, "-c", KILLED, Path(__file__).parent, fake], cwd=ROOT) as runner:
        while runner.poll() is None and len(list(tmp_path.rglob("result.json"))) < 3:
            time.sleep(0.01)
        runner.kill()
    made = sorted(tmp_path.rglob("result.json"))
    assert runner.returncode == -9 and 3 <= len(made) < 8
    popen = subprocess.Popen
    monkeypatch.setattr(run.subprocess, "Popen", lambda command, **k: popen([sys.executable, fake, *command[3:]], **k))
    time.sleep(0.5)  # for those that outlived it: the stand-in holds no lock by which to wait for them
    assert run.run_all(SMALL, "small", tmp_path, jobs=2, data_dir="data") == 0
    assert [r["state"] for r in grid.collect(SMALL, "small", tmp_path)] == ["finished"] * 8
    assert all((path.parent / "log.txt").read_text() == "made\n" for path in tmp_path.rglob("result.json"))


@pytest.mark.parametrize("path", sorted((ROOT / "experiments/records").glob("*/*.jsonl")), ids=str)
def test_published_tables_are_those_of_their_records(path):
    if path.parent.name not in NAMES:
        return
    made, stem = grid.read_records(path.parent.name, "" if path.stem == "full" else path.stem), path.with_suffix("")
    declared = grid.table(path.parent.name)
    assert made == grid.collect(declared, "" if path.stem == "full" else path.stem, known=made)
    assert stem.with_suffix(".md").read_text() == table.markdown(made, grid.table(path.parent.name))
    assert stem.with_suffix(".tex").read_text() == table.latex(made, declared)
    assert stem.with_suffix(".csv").read_text() == table.as_csv(made, declared)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(
        UserError, match="unknown experiment 'nothing'; expected one of augmentation, boundaries, denoise, depth"
    ):
        grid.table("nothing")
    for module, arguments, message in (
        ("run", ["main", "depth"], "expected python -m experiments.run NAME [--workdir=DIR]"),
        (
            "run",
            ["main", "--preset=smokee"],
            "ListOps | gconv: config:gconv,smokee: unknown name 'smokee'; expected one of",
        ),
        ("run", ["depth", "--dry_run", "--commands"], "prints their commands; give one of them"),
        ("table", ["heads"], "this table wasn't run; what was measured of its models is in"),
        ("run", ["main", "--workdir=setup.py"], "--workdir: setup.py/main/small can't be written"),
        (
            "run",
            ["main", "--workdir=x", "--columns=Chess"],
            "--columns: main has no 'Chess'; it has ListOps, Text, Image",
        ),
        ("table", ["main", "--preset=tiny"], "tiny.jsonl is missing: this table wasn't run"),
        ("table", ["main", f"--workdir={tmp_path}"], "is no folder; python -m experiments.run main makes it"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", f"experiments.{module}", *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr


def test_hours_are_those_of_as_many_steps_of_the_same_run_or_of_its_config():
    wanted = run.missing(SMALL, "small", Path("nowhere"))[0]
    of = {"config": wanted.config, "overrides": dict(wanted.overrides), "state": "finished"}
    known = [{**of, "result": {"train_seconds": 30.0, "steps": 600}}]
    other = wanted._replace(overrides={"model.layers": 3})
    long = wanted._replace(overrides={**wanted.overrides, "steps": 2000})
    unknown = wanted._replace(config="configs/image.py:gconv")
    assert run.projected_seconds([wanted, long, other, unknown], [], known) == [30.0, 100.0, 30.0, None]
    known += [{**of, "overrides": {"model.layers": 3}, "result": {"train_seconds": 50.0, "steps": 600}}]
    assert run.projected_seconds([wanted, long, other], [], known) == [30.0, 100.0, 50.0]
    own = [{**known[0], "row": "a", "column": "ListOps", "result": {"train_seconds": 9.0, "steps": 600}}]
    assert run.projected_seconds([wanted, long._replace(row="b")], own, known) == [9.0, 30.0]


def test_a_full_dry_run_says_of_which_runs_it_knows_no_time(tmp_path, capsys):
    rows = {"gconv": Part("gconv"), "S5": Part("ssm")}
    full = SMALL._replace(rows=rows, columns={"Image": Part("image")}, sweep=({},))
    run.print_missing(full, "t", "", tmp_path)
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "projecting: 6 of 6"
    lines = out.splitlines()
    hours = [line.rpartition(": ")[2] for line in lines if line.startswith("Image | gconv")]
    assert len(hours) == 3 and len(set(hours)) == 1 and float(hours[0].removesuffix(" h")) > 0.1
    assert sum(line.startswith("Image | S5 | ") and line.endswith(": unknown") for line in lines) == 3
    assert lines[-1].endswith(" of training in all, 3 of unknown time taken to be as long as the others")


def test_hours_are_those_of_the_configs_steps_where_only_fewer_were_run():
    run_ = next(iter(grid.runs(SMALL._replace(columns={"Image": Part("image")}, sweep=({},)), "")))[2][0][0]
    known = {"config": run_.config, "overrides": {"steps": 4000}, "state": "finished"}
    known["result"] = {"train_seconds": 200.0, "steps": 4000}
    assert run.projected_seconds([run_], [], [known]) == [200.0 * 200_000 / 4000]


def test_a_dry_run_lists_and_a_launcher_gets_commands(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", "depth", f"--workdir={tmp_path}", "--dry_run"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "ListOps | 24 layers | norm batch, lr 0.03, kernel_lr 0.03, seed 0: 0.0" in done.stdout
    assert "ListOps | 24 layers | seed 2, after others: 0.0" in done.stdout
    assert "25 runs missing, 10 of them after others" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", "depth", f"--workdir={tmp_path}", "--commands"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 15 and lines[0].startswith(
        "python -m gconv.main --config=configs/listops.py:gconv,small,layers=1 "
    )
    assert not list(tmp_path.iterdir())
