"""Whole runs: records, resume, and what stops them."""

import errno
import fcntl
import importlib
import json
import signal
import struct
import threading

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

from configs import base
from gconv.data import tasks
from gconv.data.generators import stand_in
from gconv.errors import UserError
from gconv.models.mixers.convolution import PointwiseGlobalConv
from gconv.training import checkpoint, loop, processes
from gconv.training.checkpoint import digest
from gconv.training.metrics import differences, in_use, read_jsonl
from scripts.chaos import DAMAGES, stray, truncate

FIELDS = {
    *("task", "mixer", "seed", "steps", "test_accuracy", "val_accuracy", "chance", "parameters", "flops_per_token"),
    *("examples_per_second", "peak_memory_bytes", "params_sha256", "data", "device"),
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


def config(data_dir, task="listops", mixer="gconv", **changes):
    made = importlib.import_module(f"configs.{task}").get_config(f"{mixer},smoke")
    made.data_dir = data_dir
    made.data.limit = 64 if task == "listops" else 16
    made.steps, made.eval_every, made.checkpoint_every = 20, 5, 10
    made.update(changes)
    return made


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """A run that was never interrupted."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, loop.train_and_evaluate(config(data_dir), str(workdir))


@pytest.mark.parametrize(
    "task, mixer",
    [("listops", "gconv"), ("text", "gconv"), ("image", "gconv"), ("listops", "attention"), ("text", "transformer")],
)
def test_every_config_runs_and_records(task, mixer, data_dir, tmp_path, capsys):
    result = loop.train_and_evaluate(config(data_dir, task, mixer, steps=6), str(tmp_path))
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert set(result) >= FIELDS
    assert (result["task"], result["mixer"], result["steps"]) == (task, mixer, 6)
    assert result["data"]["source"].startswith("generated" if task == "listops" else "stand-in: generated, not")
    assert set(json.loads((tmp_path / "run.json").read_text())) >= {"command", "versions", "device"}
    assert json.loads((tmp_path / "config.json").read_text())["mixer"] == mixer
    assert list((tmp_path / "tensorboard").glob("events*")) and list((tmp_path / "checkpoints").iterdir())
    records = read_jsonl(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["split"]) for r in records] == [
        (5, "train"),
        (5, "validation"),
        (6, "train"),
        (6, "validation"),
        (6, "test"),
    ]
    assert all(np.isfinite(r["loss"]) and 0 <= r["accuracy"] <= 1 for r in records)
    assert "step" in capsys.readouterr().err


def test_test_accuracy_is_that_of_the_best_checkpoint_on_validation(data_dir, tmp_path, monkeypatch):
    """Validation scores are given: the parameters of step 10 are best, so these and no others meet the test split."""
    given = {5: 0.2, 10: 0.9, 15: 0.9, 20: 0.3}
    seen = {}

    def evaluate(eval_step, params, split, batch_size, mesh):
        step, examples = 5 * (len(seen) + 1), len(split.labels)
        seen[step] = digest(params)
        accuracy = given.get(step, 0.5)
        return {"loss": 1.0, "accuracy": accuracy, "correct": round(accuracy * examples), "examples": examples}

    monkeypatch.setattr(loop, "evaluate", evaluate)
    result = loop.train_and_evaluate(config(data_dir), str(tmp_path))
    assert list(seen) == [5, 10, 15, 20, 25]
    assert seen[25] == seen[10] != seen[15]
    assert result["params_sha256"] == seen[20]
    assert result["val_accuracy"] == round(0.9 * 64) / 64 and result["test_accuracy"] == 0.5


def test_an_evaluation_holds_no_more_examples_than_a_part_of_a_batch(data_dir, tmp_path, monkeypatch):
    sizes = []

    def evaluate(eval_step, params, split, batch_size, mesh):
        sizes.append(batch_size)
        return {"loss": 1.0, "accuracy": 0.5, "correct": len(split.labels) // 2, "examples": len(split.labels)}

    monkeypatch.setattr(loop, "evaluate", evaluate)
    made = config(data_dir, steps=5)
    made.optim.accumulate = 4
    loop.train_and_evaluate(made, str(tmp_path))
    assert made.batch_size == 8 and sizes == [2, 2]


class Killed(Exception):
    pass


def interrupted(made, workdir, monkeypatch, step):
    """Runs until the metrics of a step are looked at."""
    with monkeypatch.context() as patch:
        real = loop._collect

        def collect(metrics, at, *rest):
            if at == step:
                raise Killed
            real(metrics, at, *rest)

        patch.setattr(loop, "_collect", collect)
        with pytest.raises(Killed):
            loop.train_and_evaluate(made, str(workdir))


@pytest.mark.parametrize("step", [3, 10, 13, 18])
def test_an_interrupted_run_ends_with_the_same_bytes(finished, data_dir, tmp_path, monkeypatch, step):
    whole, result = finished
    interrupted(config(data_dir), tmp_path, monkeypatch, step)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 19, "split": "tr')  # a record cut off in the middle
    again = loop.train_and_evaluate(config(data_dir), str(tmp_path))
    assert again["params_sha256"] == result["params_sha256"]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert again["test_accuracy"] == result["test_accuracy"] and again["val_accuracy"] == result["val_accuracy"]


def test_a_run_killed_before_its_result_writes_the_same_records(finished, data_dir, tmp_path, monkeypatch):
    whole, result = finished
    real = loop.RunDirectory.finish
    monkeypatch.setattr(loop.RunDirectory, "finish", lambda self, result: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        loop.train_and_evaluate(config(data_dir), str(tmp_path))
    monkeypatch.setattr(loop.RunDirectory, "finish", real)
    again = loop.train_and_evaluate(config(data_dir), str(tmp_path))
    assert again["params_sha256"] == result["params_sha256"]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_same_seed_same_bytes_other_seed_others(finished, data_dir, tmp_path):
    _, result = finished
    same = loop.train_and_evaluate(config(data_dir), str(tmp_path / "same"))
    other = loop.train_and_evaluate(config(data_dir, seed=1), str(tmp_path / "other"))
    assert same["params_sha256"] == result["params_sha256"] != other["params_sha256"]


def test_a_finished_run_is_left_as_it_is(finished, data_dir, capsys):
    workdir, result = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*.json*")}
    assert loop.train_and_evaluate(config(data_dir), str(workdir)) == result
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*.json*")} == before
    assert "finished run; nothing to do" in capsys.readouterr().err


def test_another_config_in_the_same_folder_is_refused(finished, data_dir):
    workdir, _ = finished
    changed = config(data_dir)
    changed.optim.lr = 0.5
    with pytest.raises(UserError, match=r"another config: config.optim.lr: 0.01 there, 0.5 here"):
        loop.train_and_evaluate(changed, str(workdir))
    assert differences({"mesh": {"data": 1}, "a": 1}, {"mesh": {"data": 8}, "a": 1}, "config") == []
    assert differences({"a": 1}, {"a": 1, "added": 0.0}, "config") == []  # since that run, and off
    assert differences({"a": 1, "removed": 0.0}, {"a": 1}, "config") == ["config.removed: 0.0 there, nothing here"]
    assert differences({"a": 1}, {"a": 1, "added": 0.3}, "config") == ["config.added: nothing there, 0.3 here"]
    assert differences({"source": "a", "sha256": 1}, {"source": "b", "sha256": 2}, "data") == [
        "data.sha256: 1 there, 2 here"
    ]


def test_a_run_goes_on_with_another_config_if_told(data_dir, tmp_path, monkeypatch, capsys):
    interrupted(config(data_dir), tmp_path, monkeypatch, 13)
    changed = config(data_dir, steps=30, checkpoint_every=20)  # the latter may change
    with pytest.raises(UserError, match=r"config.steps: 20 there, 30 here; --accept_changes goes on with this one"):
        loop.train_and_evaluate(changed, str(tmp_path))
    for steps in (7, 10):  # the last step is validated when it is made, and 10 was no last one
        with pytest.raises(UserError, match=rf"config.steps \({steps}\) doesn't lie beyond the newest .*, of step 10"):
            loop.train_and_evaluate(config(data_dir, steps=steps), str(tmp_path), accept_changes=True)
    assert loop.train_and_evaluate(changed, str(tmp_path), accept_changes=True)["steps"] == 30
    assert "going on with another config: config.steps: 20 there, 30 here" in capsys.readouterr().err
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 30
    with pytest.raises(UserError, match=r"holds a finished run with another config: config.steps: 30 there, 40 here$"):
        loop.train_and_evaluate(config(data_dir, steps=40), str(tmp_path), accept_changes=True)


def test_records_whose_checkpoints_are_gone_are_kept(data_dir, tmp_path, monkeypatch):
    made = config(data_dir, checkpoint_every=5)
    interrupted(made, tmp_path, monkeypatch, 18)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="has records up to step 15 and no checkpoint; bring its checkpoints/ back"):
        loop.train_and_evaluate(made, str(tmp_path))
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("line", ["5", '{"a": 1}', '{"step": "one"}', "[", "\udcff"])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + f"{line}\n".encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2 is no record: "):
        read_jsonl(path)


@pytest.mark.parametrize("content", ["{}", "[]"])
def test_what_is_no_result_is_named(data_dir, tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match=r"result.json is no result of a run"):
        loop.train_and_evaluate(config(data_dir), str(tmp_path))


def test_what_makes_no_model_is_refused_before_data_are_prepared(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.tasks, "load", lambda *_, **__: pytest.fail("data were prepared"))
    for field, value in (("model.norm", "bar"), ("optim.schedule", "linear")):
        made = config(data_dir)
        made.update_from_flattened_dict({field: value})
        with pytest.raises(UserError, match=value):
            loop.train_and_evaluate(made, str(tmp_path))


def test_a_mixer_without_flops_fails_before_the_first_step(data_dir, tmp_path, monkeypatch):
    monkeypatch.delattr(PointwiseGlobalConv, "flops")
    with pytest.raises(AttributeError, match="flops"):
        loop.train_and_evaluate(config(data_dir), str(tmp_path))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_run_does_not_go_on_with_another_model(data_dir, tmp_path, monkeypatch):
    interrupted(config(data_dir), tmp_path, monkeypatch, 13)
    changed = config(data_dir)
    changed.model.layers = 3
    with pytest.raises(
        UserError, match=r"checkpoints/10 is of another model: best\.blocks\.2\..* nothing there, float32"
    ):
        loop.train_and_evaluate(changed, str(tmp_path), accept_changes=True)
    assert not (tmp_path / "damaged").exists()


def test_ctrl_c_stops_after_a_step_and_a_second_one_at_once():
    before = signal.getsignal(signal.SIGINT)
    with processes.StopSignal(jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))) as stop_signal:
        assert not stop_signal.received_anywhere()
        signal.raise_signal(signal.SIGINT)
        assert stop_signal.received_anywhere()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_start_waits_for_whoever_looks_whether_the_folder_is_in_use(tmp_path):
    (tmp_path / ".lock").touch()
    with (tmp_path / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.2, fcntl.flock, (lock, fcntl.LOCK_UN)).start()
        with loop.RunDirectory(str(tmp_path), {}, 1):
            assert in_use(tmp_path)


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    (tmp_path / ".lock").touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    for look in (in_use, lambda folder: loop.RunDirectory(str(folder), {}, 1)):
        with pytest.raises(UserError, match=f"{tmp_path}/.lock can't be locked: Function not implemented"):
            look(tmp_path)


def test_a_folder_in_use_is_refused(data_dir, tmp_path):
    assert not in_use(tmp_path)
    with loop.RunDirectory(str(tmp_path), {}, 1), pytest.raises(UserError, match="is in use by another run"):
        assert in_use(tmp_path)
        loop.train_and_evaluate(config(data_dir), str(tmp_path))
    assert not in_use(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(data_dir, tmp_path, monkeypatch):
    real = loop._collect

    def poisoned(metrics, step, *rest):
        real({**metrics, "loss": np.float32("nan")} if step == 17 else metrics, step, *rest)

    monkeypatch.setattr(loop, "_collect", poisoned)
    with pytest.raises(UserError, match="step 17: loss is nan; the last checkpoint is kept"):
        loop.train_and_evaluate(config(data_dir), str(tmp_path))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["10"]
    assert not (tmp_path / "result.json").exists()
    assert (tmp_path / "failed").read_text() == "step 17: loss is nan; the last checkpoint is kept\n"
    monkeypatch.undo()
    loop.train_and_evaluate(config(data_dir), str(tmp_path))
    assert not (tmp_path / "failed").exists()


def test_data_kept_on_the_device_trains_alike(finished, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.sharding, "keeps", lambda split, gib: gib >= 4)
    monkeypatch.setattr(loop.pipeline.TrainBatches, "__getitem__", None)  # the host gathers no batch
    result = loop.train_and_evaluate(config(data_dir), str(tmp_path))
    assert result["params_sha256"] == finished[1]["params_sha256"]


def poison(monkeypatch, steps):
    """Makes the loss of some steps nan."""
    take = loop.pipeline.TrainBatches.__getitem__

    def poisoned(self, step):
        batch = take(self, step)
        return batch._replace(weights=batch.weights * np.float32("nan")) if step + 1 in steps else batch

    monkeypatch.setattr(loop.pipeline.TrainBatches, "__getitem__", poisoned)


def test_steps_that_are_not_finite_are_skipped_up_to_a_limit(data_dir, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, {7, 8, 13})
    made = config(data_dir)
    made.optim.skip_nonfinite = 2
    with pytest.raises(UserError, match="step 13: loss is nan; the last checkpoint is kept"):
        loop.train_and_evaluate(made, str(tmp_path / "two"))
    assert [path.name for path in (tmp_path / "two/checkpoints").iterdir()] == ["10"]
    assert "WARNING: step 8: loss is nan; skipped, as 2 of at most 2" in capsys.readouterr().err

    made.optim.skip_nonfinite = 3
    result = loop.train_and_evaluate(made, str(tmp_path / "three"))
    records = read_jsonl(tmp_path / "three/metrics.jsonl")
    assert [r["step"] for r in records if r["split"] == "train"] == [5, 10, 15, 20]
    assert all(np.isfinite(record["loss"]) for record in records)
    interrupted(made, tmp_path / "resumed", monkeypatch, 14)  # after two were skipped before its checkpoint
    assert loop.train_and_evaluate(made, str(tmp_path / "resumed"))["params_sha256"] == result["params_sha256"]
    assert (tmp_path / "resumed/metrics.jsonl").read_bytes() == (tmp_path / "three/metrics.jsonl").read_bytes()


def test_a_limit_that_was_lowered_since_holds():
    metrics = {"loss": np.float32("nan"), "accuracy": np.float32(0), "grad_norm": np.float32(1)}
    for limit in (0, 1, 2):
        with pytest.raises(UserError, match="step 9: loss is nan"):
            loop._collect(metrics, 9, [], [7, 8], limit)


@pytest.mark.parametrize("every", [1, 10])
def test_a_learning_rate_that_explodes_is_stopped_before_it_is_saved(data_dir, tmp_path, every):
    made = config(data_dir, log_every=1, checkpoint_every=every, eval_every=20)
    made.optim.lr = made.optim.kernel_lr = 1e38
    with pytest.raises(UserError, match=r"step \d+: (loss|grad_norm|validation loss|norm of the par\w+) is (nan|inf)"):
        loop.train_and_evaluate(made, str(tmp_path))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == (["1"] if every == 1 else [])
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    data_dir, tmp_path, monkeypatch, capsys, finished, damage
):
    made = config(data_dir, checkpoint_every=5)
    interrupted(made, tmp_path, monkeypatch, 13)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "5"]
    damage(tmp_path / "checkpoints/10")
    again = loop.train_and_evaluate(made, str(tmp_path))
    said = capsys.readouterr().err
    assert f"checkpoints/{'999' if damage is stray else '10'} is damaged" in said
    assert f"going on from step {'10' if damage is stray else '5'}" in said
    assert again["params_sha256"] == finished[1]["params_sha256"]
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_anew(data_dir, tmp_path, monkeypatch):
    made = config(data_dir, checkpoint_every=5)
    interrupted(made, tmp_path, monkeypatch, 13)
    for step in ("5", "10"):
        truncate(tmp_path / "checkpoints" / step)
    recorded = (tmp_path / "metrics.jsonl").read_bytes()
    for _ in range(2):  # nor by whoever starts it again
        with pytest.raises(UserError, match="every checkpoint is damaged"):
            loop.train_and_evaluate(made, str(tmp_path))
    assert (tmp_path / "metrics.jsonl").read_bytes() == recorded


def test_a_checkpoint_that_cannot_be_read_just_now_is_not_damaged(data_dir, tmp_path, monkeypatch):
    made = config(data_dir, checkpoint_every=5)
    interrupted(made, tmp_path, monkeypatch, 13)

    def failing(path):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="Input/output error"):
        patch.setattr(checkpoint, "_read", failing)
        loop.train_and_evaluate(made, str(tmp_path))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "5"]
    assert not (tmp_path / "damaged").exists()


def test_a_lost_connection_is_not_the_users_to_mend(tmp_path):
    with checkpoint.Checkpoints(tmp_path / "checkpoints") as checkpoints, pytest.MonkeyPatch.context() as patch:
        for error, expected in (
            (RuntimeError("Gloo AllGather failed: Connection reset by peer"), RuntimeError),
            (ValueError("RESOURCE_EXHAUSTED: write: [OS error 28: No space left on device]"), UserError),
        ):
            patch.setattr(checkpoints._manager, "check_for_errors", raising(error))
            with pytest.raises(expected):
                checkpoints.check()


def raising(error):
    def raises():
        raise error

    return raises


def test_a_run_does_not_go_on_with_other_data(data_dir, tmp_path, monkeypatch):
    made = config(data_dir, "text")
    interrupted(made, tmp_path, monkeypatch, 13)
    other = tasks.TASKS["text"]._replace(stand_in=lambda examples, seed: stand_in.text(examples, seed + 1))
    monkeypatch.setitem(tasks.TASKS, "text", other)
    with pytest.raises(UserError, match=r"holds a run with other data: data.sha256: \w+ there, \w+ here"):
        loop.train_and_evaluate(made, str(tmp_path))


def test_a_config_that_was_refused_does_not_claim_the_folder(data_dir, tmp_path):
    wrong = config(data_dir, batch_size=8, steps=5)
    wrong.data.length = 4
    with pytest.raises(UserError, match=r"data\.length is 4"):
        loop.train_and_evaluate(wrong, str(tmp_path))
    loop.train_and_evaluate(config(data_dir, steps=5), str(tmp_path))


def test_an_accuracy_within_noise_of_chance_is_said_loudly(capsys):
    result = {"test_accuracy": 0.18, "chance": 0.17, "data": {"examples": {"test": 200}}}
    loop._say_result(result)
    assert "WARNING: the test accuracy is WITHIN NOISE OF CHANCE" in capsys.readouterr().err
    loop._say_result({**result, "test_accuracy": 0.4})
    assert "WARNING" not in capsys.readouterr().err


def test_the_time_lost_to_evaluation_and_checkpoints_is_written(finished):
    workdir, result = finished
    timings = read_jsonl(workdir / "timings.jsonl")
    steps, pauses = ([r for r in timings if (name in r)] for name in ("seconds", "evaluation"))
    assert [(r["step"], r["split"]) for r in pauses] == [
        *[(step, "validation") for step in (5, 10, 15, 20)],
        (20, "test"),
    ]
    assert all(r["evaluation"] > 0 and r["checkpoint"] >= 0 for r in pauses)
    assert sum(r["examples"] for r in steps) == 20 * 8
    speeds = sorted(r["examples"] / r["seconds"] for r in steps)
    assert speeds[0] <= result["examples_per_second"] <= speeds[-1]


def test_no_checkpoint_is_ahead_of_the_records_on_disk(data_dir, tmp_path, monkeypatch):
    done = []
    fsync, save = loop.RunDirectory.sync, loop.Checkpoints.save
    monkeypatch.setattr(loop.RunDirectory, "sync", lambda self: (done.append("sync"), fsync(self)))
    monkeypatch.setattr(loop.Checkpoints, "save", lambda self, *args: (done.append("save"), save(self, *args)))
    loop.train_and_evaluate(config(data_dir), str(tmp_path))
    assert done == ["sync", "save"] * 2


def test_tensorboard_reads_the_records(finished):
    """The events are frames of length, checksum, an Event and a checksum, as TensorBoard expects them."""
    from tensorboardX.proto.event_pb2 import Event

    workdir, _ = finished
    (path,) = (workdir / "tensorboard").glob("events*")
    content, place, found = path.read_bytes(), 0, {}
    while place < len(content):
        (length,) = struct.unpack("<Q", content[place : place + 8])
        event = Event.FromString(content[place + 12 : place + 12 + length])
        found.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
        place += length + 16
    for record in read_jsonl(workdir / "metrics.jsonl"):
        for name in set(record) - {"step", "split"}:
            assert found[f"{record['split']}/{name}", record["step"]] == pytest.approx(record[name], rel=1e-6)
    assert ("examples_per_second", 20) in found


def test_a_trace_of_some_steps(finished, data_dir, tmp_path, capsys):
    """Asked for when a run goes on, too: it changes nothing that is learnt."""
    _, result = finished
    traced = loop.train_and_evaluate(config(data_dir, profile=3), str(tmp_path))
    assert f"steps 2 to 4 are traced in {tmp_path / 'profile'}" in capsys.readouterr().err
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert traced["params_sha256"] == result["params_sha256"]
    assert loop.train_and_evaluate(config(data_dir, profile=5), str(tmp_path)) == traced


def test_memory_and_flops_are_counted(finished):
    _, result = finished
    # 2 layers of 32 features and length 32: GLU, kernels of 63 taps, skip and norm; embedding and head
    block = 32 * 64 + 64 + 63 * 32 + 32 + 64
    assert result["parameters"] == 2 * block + 16 * 32 + 32 * 10 + 10
    # Parameters and two moments, and at the least each block's input, convolution and GLU, kept for the gradient.
    activations = 2 * (8 * 32) * (32 + 32 + 64)
    assert 1 < result["peak_memory_bytes"] / (4 * (3 * result["parameters"] + activations)) < 10
    glu = 2 * 32 * 64
    assert result["flops_per_token_direct"] == 2 * (glu + 2 * 32 * 32) + 2 * 32 * 10 / 32


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("steps", 0, "config.steps must be at least 1; got 0"),
        ("eval_every", 0, "config.eval_every must be at least 1; got 0"),
        ("profile", -1, "config.profile must be at least 0; got -1"),
        ("seed", -1, "config.seed must be at least 0; got -1"),
        ("optim.lr", 0.0, "config.optim.lr must be positive"),
        ("optim.lr", float("inf"), "config.optim.lr must be finite; got inf"),
        ("optim.accumulate", 0, "config.optim.accumulate must be at least 1; got 0"),
        ("model.layers", -1, "config.model.layers must be at least 1; got -1"),
        ("model.features", 0, "config.model.features must be at least 1; got 0"),
        ("model.dropout", 1.5, r"config.model.dropout must be in \[0, 1\); got 1.5"),
        ("model.mlp_ratio", -1.0, "config.model.mlp_ratio must be at least 0; got -1.0"),
        ("model.mlp_ratio", 0.01, "config.model: mlp_ratio must be 0 or give a hidden unit; got 0.01 of 32 features"),
        ("model.mlp_ratio", float("inf"), "config.model.mlp_ratio must be finite; got inf"),
        ("model.activation", "tanh", "config.model: activation must be one of relu, gelu, .*; got 'tanh'"),
        ("data.name", "mqar", "config.data.options of mqar must be those of configs/probes.py: .*pairs"),
        ("model.mixer_options.boundary", "circ", "config.model: boundary must be one of circular, causal, bidir"),
        ("model.mixer_options.kernel_options.dropout", 2.0, r"config.model: .* dropout in \[0, 1\)"),
        ("model.dtype", "float99", "config.model.dtype must be float32 or bfloat16; got 'float99'"),
        ("model.interleave.every", -1, "config.model.interleave.every must be at least 0; got -1"),
        ("model.mixer", ".foo.Bar", r"config.model.mixer='.foo.Bar' can't be imported: .*relative import"),
        ("model.mixer_options.kernel_length", -5, "config.model: kernel_length must be at least 0; got -5"),
        ("optim.kernel_weight_decay", -5.0, "config.optim.kernel_weight_decay must be at least 0; got -5.0"),
        ("optim.warmup_steps", -3, "config.optim.warmup_steps must be at least 0; got -3"),
        ("optim.clip", float("nan"), "config.optim.clip must be at least 0; got nan"),
        ("data.limit", -5, "config.data.limit must be at least 0; got -5"),
        ("data_dir", "", "config.data_dir must name a folder; it is empty"),
        ("seed", 2**32, r"config.seed must be below 2\*\*32; got 4294967296"),
        ("optim.accumulate", 3, r"config.batch_size \(8\) must divide by the data axis of the mesh \(1\) times"),
        ("data.name", "speech", "config.data.name must be one of listops, text, .*; got 'speech'"),
        ("data.variant", "tiny", "listops has no variant 'tiny'; it has lra, short, smoke"),
        ("mesh.data", 3, r"config.mesh: data=3, sequence=1, model=1 doesn't fit 1 devices"),
        ("data.length", 16, r"listops: train example \d+ has length \d+; config.data.length is 16"),
    ],
)
def test_a_config_that_cannot_be_run_is_named(data_dir, tmp_path, field, value, message):
    made = config(data_dir)
    made.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        loop.train_and_evaluate(made, str(tmp_path / "run"))


@pytest.mark.parametrize(
    "names, fields, message",
    [
        ("gconv", {"boundary": "circular", "kernel_length": 16}, "a free circular kernel of length 16 has no taps"),
        ("gconv", {"stretch": True, "kernel_length": 16}, "a free bidirectional kernel of length 16 has no"),
        ("gconv,fourier", {"kernel_length": 16}, "config.model: .*length"),
    ],
)
def test_a_kernel_that_cannot_be_had_at_the_models_length_is_named(data_dir, tmp_path, names, fields, message):
    made = config(data_dir, mixer=names)
    made.model.mixer_options.update(fields)
    with pytest.raises(UserError, match=message):
        loop.train_and_evaluate(made, str(tmp_path / "run"))


def test_a_score_below_guessing_is_not_called_noise(capsys):
    loop._say_result({"data": {"examples": {"test": 96}}, "chance": 0.25, "test_accuracy": 0.1})
    loop._say_result({"data": {"examples": {"test": 96}}, "chance": 0.25, "test_accuracy": 0.2})
    told = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert ["BELOW GUESSING (0.2500 ± 0.0866)" in line for line in told] == [True, False]


def test_full_configs_are_whole_and_build():
    from gconv.training.step import build_model

    for task in ("listops", "text", "retrieval", "image", "pathfinder", "pathx", "same_film"):
        module = importlib.import_module(f"configs.{task}")
        for part in ("python -m gconv.main --config=configs/", "published test accuracy", "expected time"):
            assert part in module.__doc__
        for mixer in (
            *base.MIXERS,
            "gconv,sgconv",
            "attention,miralles",
            "gconv,diagonal",
            "attention,small",
            "gconv,small,match=parameters",
        ):
            made = module.get_config(mixer)
            assert made.batch_size % 8 == 0
            top = ("seed", "steps", "batch_size", "eval_every", "checkpoint_every", "data_dir", "mesh")
            assert all(name in made for name in top)
            spec = tasks.spec(made.data.name, made.data.length, made.data.options)
            jax.eval_shape(lambda made=made, spec=spec: build_model(made.model, spec, jax.random.key(0)).flops(8).fft)


def test_a_run_starts_from_the_best_of_another_at_another_length(data_dir, tmp_path):
    import gconv

    made = listops_of(data_dir, "gconv,smoke,diagonal")
    loop.train_and_evaluate(made, str(tmp_path / "short"))
    longer = listops_of(data_dir, "gconv,smoke,diagonal")
    longer.data.length, longer.model.mixer_options.kernel_length = 64, 32
    longer.init_from = str(tmp_path / "short")
    longer.optim.lr = longer.optim.kernel_lr = 1e-30  # nothing moves
    loop.train_and_evaluate(longer, str(tmp_path / "long"))
    old, new = (jax.tree.leaves(nnx.state(gconv.load(tmp_path / name).model, nnx.Param)) for name in ("short", "long"))
    assert all((a == b).all() for a, b in zip(old, new, strict=True))
    early = listops_of(data_dir, "gconv,smoke,diagonal")
    early.steps, early.eval_every, early.checkpoint_every = 4, 4, 2
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError):
        patch.setattr(loop, "evaluate", stops)  # after the save at step 2
        loop.train_and_evaluate(early, str(tmp_path / "early"))
    unvalidated = listops_of(data_dir, "gconv,smoke,diagonal")
    unvalidated.init_from = str(tmp_path / "early")
    with pytest.raises(UserError, match=r"early hasn't been validated yet, so none are its best"):
        loop.train_and_evaluate(unvalidated, str(tmp_path / "from_early"))
    longer.model.features = 16
    with pytest.raises(UserError, match=r"short/checkpoints/\d+ is of another model: it has no best\."):
        loop.train_and_evaluate(longer, str(tmp_path / "other"))


def stops(*_):
    raise UserError("stopped before its first validation")


def listops_of(data_dir, names):
    made = importlib.import_module("configs.listops").get_config(names)
    made.data_dir, made.data.limit, made.steps, made.eval_every, made.checkpoint_every = data_dir, 64, 6, 3, 6
    return made


def test_progressive_resolution_keeps_the_parameters():
    from gconv.training.match import parameters

    pathx = importlib.import_module("configs.pathx")
    made = [pathx.get_config(f"gconv,implicit,side{side}") for side in (32, 64, 128)]
    assert [m.data.length for m in made] == [1024, 4096, 16384] and [m.data.pool for m in made] == [4, 2, 1]
    assert len({parameters(m) for m in made}) == 1
    assert [m.steps for m in made] == [500_000, 250_000, 125_000]
    assert pathx.get_config("local,side64").model.mixer_options.kernel_length == 0  # taps know no length
    small = [pathx.get_config(f"gconv,side{side},small,implicit") for side in (32, 64, 128)]
    assert [(m.data.length, m.data.pool) for m in small] == [(64, 16), (256, 8), (1024, 4)]
    assert {m.model.mixer_options.kernel_length for m in small} == {64} and len({m.steps for m in small}) == 1
    whole = pathx.get_config("gconv,small")
    assert (whole.data.length, whole.data.pool, whole.model.mixer_options.kernel_length) == (1024, 4, 0)
