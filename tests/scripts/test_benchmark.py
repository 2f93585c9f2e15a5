import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import base
from experiments import lra
from gconv.data.dataset import Split
from gconv.ops.convolution import BOUNDARIES, global_conv
from gconv.training.timing import medians
from scripts.benchmark import block, full_setting, operator, pipeline, rivals, training_step

RECORDS = Path(__file__).parents[2] / "experiments/records/benchmark"


def test_functions_are_called_in_turn_and_each_as_often():
    calls = []
    taken = medians({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=4, seconds=60)
    assert calls == ["a", "a", "b", "b"] + ["a", "b"] * 4
    assert set(taken) == {"a", "b"} and all(seconds > 0 for seconds in taken.values())
    calls.clear()
    medians({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=50, seconds=0)
    assert len(calls) == 4 + 2 * 3  # a median of three at least


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_rivals_compute_the_same_convolution(boundary):
    rng = np.random.default_rng(0)
    x, kernel = (
        rng.standard_normal(s, np.float32) for s in ((2, 16, 3), (31 if boundary == "bidirectional" else 16, 3))
    )
    ours = global_conv(x, kernel, boundary=boundary, method="matrix")
    np.testing.assert_allclose(rivals.naive(x, kernel, boundary), ours, atol=1e-5)


def test_every_method_is_measured_and_its_error_known(monkeypatch):
    monkeypatch.setattr(operator, "ELEMENTS", {"cpu": 2**11})
    monkeypatch.setattr(operator, "SHORT_KERNELS", (4,))
    rows = operator.measure(16, rounds=1, seconds=0)
    named = {(row["method"], row["boundary"]) for row in rows}
    assert {(f"global_conv {layout}", b) for layout in ("blc", "bcl") for b in BOUNDARIES} < named
    assert {("naive jnp.fft", b) for b in BOUNDARIES} | {(operator.ATTENTION, ""), ("jax.nn attention", "")} < named
    summed = {f"global_conv {method} bcl" for method in ("matmul", "matrix")}
    few = {f"global_conv {method}bcl, 4 taps" for method in ("", "shift ", "direct ")}
    assert {(name, "circular") for name in summed | few} < named
    for row in rows:
        assert row["forward"] > 0 and row["gradient"] > 0
        if "error" in row:
            assert set(row["error"]) == {"y", "dx", "dkernel"} and max(row["error"].values()) < 1e-6
        assert "error" in row or not row["boundary"], "a convolution whose error isn't known"
    if rivals.torch_or_none() is not None:
        assert {(f"PyTorch rfft {layout}", b) for layout in ("blc", "bcl") for b in BOUNDARIES} < named
        assert (operator.PYTORCH_DIRECT, "circular") in named and (operator.PYTORCH_ATTENTION, "") in named
    assert operator.table(rows).count("\n") == len(rows) + 1


def test_a_layer_is_timed_with_its_dense_layers(monkeypatch):
    monkeypatch.setattr(block, "TOKENS", 128)
    rows = block.measure(64, rounds=1, seconds=0)
    assert [row["model"] for row in rows] == ["gconv", "gconv, perceptron", "attention", "attention, perceptron"]
    assert all(row["seconds"] > 0 and row["batch"] == 2 for row in rows)
    perceptron = 2 * block.FEATURES * 4 * block.FEATURES
    assert perceptron < rows[1]["parameters"] - rows[0]["parameters"] < 1.1 * perceptron
    for row, seconds in zip(rows, (0.01, 0.02, 0.05, 0.03), strict=True):
        row["seconds"], row["bytes"] = seconds, 2**20
    assert "| 64 | 2 | 10 | 50 | 5.0 | 20 | 30 | 1.5 | 1 | 1 |" in block.table(rows)
    assert [block.batch_of(length) for length in (64, 128, 256)] == [2, 1, 1]


def test_a_method_that_the_device_cannot_run_is_left_out_and_said(monkeypatch, capsys):
    def fails():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: shared memory\nmore")

    kept = operator.Case("kept", "circular", lambda gradient: lambda: None, lambda: {"bytes": 1})
    monkeypatch.setattr(operator, "_cases", lambda *_: [kept._replace(method="broken", facts=fails), kept])
    (row,) = operator.measure(16, rounds=1, seconds=0)
    assert row["method"] == "kept" and row["bytes"] == 1
    said = "broken circular, length 16, is left out: RESOURCE_EXHAUSTED: shared memory\n"
    assert said in capsys.readouterr().err


def test_full_models_are_timed_where_they_fit(monkeypatch):
    def compiled(config, batch_size):
        small = config.mixer == "gconv"
        return lambda: None, {"parameters": 1, "bytes": 1 if small else 2**50}

    monkeypatch.setattr(full_setting, "compiled_step", compiled)
    rows = full_setting.measure(["Text"], rounds=1, seconds=0, most_bytes=2**30)
    assert [row["model"] for row in rows] == list(lra.TABLE.rows) and rows[0]["steps"] == 50_000
    ours, *others = full_setting.table([rows[0] | {"seconds": 0.012}, *rows[1:]]).splitlines()[2:]
    assert ours == "| Text | gconv | 16 | 50,000 | 12.0 | 1,333 | 0.0 GiB | 10 |"
    assert len(others) == len(lra.TABLE.rows) - 1 and all("not run: too large" in line for line in others)


def test_methods_are_told_in_times_of_the_fft():
    time = {"global_conv bcl": 2.0, "global_conv matmul bcl": 3.0, "global_conv bcl, 4 taps": 4.0}
    time |= {"global_conv shift bcl, 4 taps": 1.0}
    rows = [{"method": m, "boundary": "circular", "length": 4096, "gradient": t} for m, t in time.items()]
    rows += [{"method": "global_conv bcl", "boundary": "causal", "length": 4096, "gradient": 9.0}]
    head, _, line = operator.by_method(rows).splitlines()
    told = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert (
        told["shift, 4 taps"] == "0.25" and told["matmul, all taps |"] == "1.50 |" and told["matrix, all taps"] == "–"
    )


def test_the_convolution_is_ahead_from_where_it_stays_so():
    times = {16: (1.0, 2.0), 64: (3.0, 2.0), 256: (1.0, 2.0), 1024: (1.0, None)}
    rows = []
    for length, (conv, attention) in times.items():
        at = {"length": length, "gradient": conv, "forward": 9.0}
        rows += [at | {"method": "global_conv bcl", "boundary": "circular"}]
        rows += [at | {"method": "global_conv bcl, 4 taps", "boundary": "circular", "gradient": 0.0, "taps": 4}]
        rows += [at | {"method": operator.COPY, "boundary": "", "gradient": 0.0}]
        if attention:
            rows += [at | {"method": "jax.nn attention", "boundary": "", "gradient": attention, "forward": 5.0}]
    behind = {"method": "global_conv bcl", "boundary": "causal", "length": 256, "forward": 9.0, "gradient": 9.0}
    assert operator.crossovers([*rows, behind]).splitlines()[2:] == [
        "| circular, float32 | none | 256 |",
        "| causal, float32 | none | none |",
    ]


def test_models_of_a_step_have_equal_parameters():
    shape = training_step.Shape(64, 32, 2, 2)
    pytest.importorskip("torch")
    rows = {row["model"]: row for row in training_step.measure(shape, rounds=1, seconds=0)}
    assert rows["gconv"]["parameters"] == pytest.approx(rows["attention"]["parameters"], rel=0.02)
    assert {"gconv in PyTorch, blc", "gconv in PyTorch, bcl"} < set(rows)


def test_a_step_that_needs_too_much_memory_is_not_run(monkeypatch):
    monkeypatch.setattr(training_step, "TOKENS", 1024)
    monkeypatch.setattr(training_step, "MIXERS", ("gconv",))
    monkeypatch.setattr(training_step, "WITH_ATTENTION", ("attention",))
    ours, attention = training_step.measure_task("image", rounds=1, seconds=0, most_bytes=12 * 2**20)
    assert ours["bytes"] < 12 * 2**20 < attention["bytes"] and "seconds" not in attention
    assert ours["examples_per_second"] == pytest.approx(1 / ours["seconds"])
    assert f"not run: needs {attention['bytes'] / 2**30:.0f} GiB" in training_step.task_table([ours, attention])


def test_every_mixer_is_recorded_on_every_task_at_equal_parameters():
    rows = [row for row in json.loads((RECORDS / "step.json").read_text())["rows"] if "task" in row]
    shapes = {"listops": 2048, "text": 4096, "retrieval": 4000, "image": 1024, "pathfinder": 1024, "pathx": 16_384}
    assert set(training_step.TASKS) == set(shapes)
    for task, length in shapes.items():
        of = {row["model"]: row for row in rows if row["task"] == task}
        assert set(of) == set(base.MIXERS) - {"matrix", "mlp_mixer_glu", "attention_glu"}  # the ladder's own
        assert all(row["length"] == length for row in of.values())
        for row in of.values():
            assert row["parameters"] == pytest.approx(of["attention"]["parameters"], rel=0.05)
            assert "seconds" in row or row["bytes"] > 2**33


def test_throughput_counts_examples(monkeypatch):
    clock = iter([0.0, 0.0, 1.0, 2.0, 4.0])
    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: next(clock))
    split = Split(np.zeros((20, 4), np.uint8), np.full(20, 4, np.int32), np.zeros(20, np.int32))
    assert pipeline.examples_per_second(split, batch_size=6, seconds=2) == 2 * 6 / 4


def test_every_task_with_a_config_has_its_throughput(monkeypatch):
    monkeypatch.setattr(pipeline, "EXAMPLES", 64)
    monkeypatch.setattr(pipeline, "compiled_step", lambda config, batch_size: (lambda: None, {}))
    rows = {row["task"]: row for row in pipeline.measure(seconds=0.01)}
    assert set(rows) == {"listops", "text", "retrieval", "image", "pathfinder", "pathx", "same_film"}
    assert rows["retrieval"]["documents"] == 2 and rows["pathx"]["length"] == 16_384
    assert all(row["trained_per_second"] > 0 for row in rows.values())


@pytest.mark.parametrize("arguments, message", [
    (["speed"], "expected ops, block, step, full or data; got speed"),
    (["ops", "--lengths=16,x"], "--lengths: expected whole numbers from 2 on; got 'x'"),
    (["step", "--lengths=16"], "--lengths is of ops and block; step has no use for it"),
    (["ops", "--columns=Text"], "--columns is of full; ops has no use for it"),
    (["data", "--output=/dev/null/x"], "--output: /dev/null/x can't be written"),
])  # fmt: skip
def test_bad_arguments_end_in_one_line(arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmark", *arguments], cwd=RECORDS.parents[2], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr


@pytest.mark.parametrize("name, module", [
    ("ops", operator), ("step", training_step), ("block", block), ("data", pipeline), ("h100/ops", operator),
    ("h100/first/ops", operator),
])  # fmt: skip
def test_published_tables_are_those_of_their_records(name, module):
    record = json.loads((RECORDS / f"{name}.json").read_text())
    published = (RECORDS / f"{name}.md").read_text()
    assert module.table(record["rows"]) in published
    assert name not in ("ops", "h100/first/ops") or operator.by_method(record["rows"]) in published
    assert name not in ("ops", "h100/ops") or operator.crossovers(record["rows"]) in published
    if name == "h100/first/ops":  # of code that has changed, so its goals are not the project's
        return
    goals = module.bars(record["rows"]) if module is not block else []
    assert record["goals"] == [list(goal) for goal in goals]
    for what, ratio, bound in record["goals"]:
        assert f"| {what} | {ratio:.3g} | {bound:.3g} | {'met' if ratio <= bound else 'MISSED'} |" in published


@pytest.mark.parametrize("note", ["", "Of two days."])
def test_what_was_measured_of_full_models_is_shown_and_kept(tmp_path, note):
    path = tmp_path / "full.json"
    script = f"""
import json, sys
from gconv import cli
from gconv.training import metrics
from scripts.benchmark import __main__ as benchmark, full_setting
metrics.device_name = lambda: "a GPU"
record = json.load(open({str(RECORDS / "h100/full.json")!r}))
full_setting.measure = lambda *_: record["rows"][:1]
if {note!r}:
    json.dump({{"note": {note!r}, "device": "a GPU", "rows": record["rows"][1:2]}}, open({str(path)!r}, "w"))
cli.run(benchmark.main)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "full", f"--output={tmp_path}"],
        cwd=RECORDS.parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(path.read_text())
    assert len(made["rows"]) == (2 if note else 1) and made.get("note", "") == note
    assert full_setting.table(made["rows"]) in done.stdout and note in (tmp_path / "full.md").read_text()


def test_a_later_measurement_of_a_full_model_leaves_the_others():
    known = json.loads((RECORDS / "h100/full.json").read_text())["rows"]
    again = {**known[0], "seconds": 1.0}
    new = {**again, "task": "Pathfinder"}
    assert full_setting.merged(known, [new, again]) == [again, *known[1:], new]
    assert full_setting.merged([], known) == known


def test_the_published_table_of_full_models_is_that_of_its_record():
    record = json.loads((RECORDS / "h100/full.json").read_text())
    assert full_setting.table(record["rows"]) in (RECORDS / "h100/full.md").read_text()
