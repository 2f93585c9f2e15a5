"""Two real processes on one machine: one run, however it is cut off."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gconv.errors import UserError
from gconv.training import processes
from gconv.training.checkpoint import Checkpoints
from gconv.training.metrics import read_jsonl

STEPS = 60
# gconv.main, which tells on standard output of the first parameters and of the examples in each batch.
TELLING = """
import hashlib, json
from gconv import cli, main
from gconv.data.pipeline import TrainBatches
from gconv.training import loop
from gconv.training.checkpoint import digest

take, initialize = TrainBatches.__getitem__, loop.initialize

def telling_take(self, step):
    batch = take(self, step)
    print(json.dumps([hashlib.sha256(row.tobytes()).hexdigest() for row in batch.inputs]))
    return batch

def telling_initialize(*arguments):
    graphdef, state = initialize(*arguments)
    print(json.dumps(digest(state.params)))
    return graphdef, state

TrainBatches.__getitem__, loop.initialize = telling_take, telling_initialize
cli.run(main.main)
"""


def command(workdir, data_dir, program, **flags):
    options = [f"--{name}={value}" for name, value in flags.items()]
    every = {"steps": STEPS, "log_every": 5, "eval_every": 10, "checkpoint_every": 10, "data_dir": data_dir}
    small = {"model.layers": 1, "model.features": 8}
    options += [f"--config.{name}={value}" for name, value in {**every, **small}.items()]
    config = "--config=configs/listops.py:gconv,smoke"
    return [sys.executable, *program, config, f"--workdir={workdir}", *options]


SLURM_PORTS = 2**16 - 2**12  # JAX's formula for the port of a job is this, plus the job's number modulo 2**12


def free_port():
    for port in range(SLURM_PORTS + os.getpid() % 1000, 2**16):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("localhost", port))
            return port
    raise RuntimeError("no free port")


def start(commands, environments=({}, {})):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = zip(commands, environments, strict=True)
    return [subprocess.Popen(command, env={**os.environ, **environment}, **pipes) for command, environment in both]


def start_two(workdir, data_dir, program=("-m", "gconv.main")):
    together = {"coordinator": f"localhost:{free_port()}", "processes": 2}
    return start([command(workdir, data_dir, program, **together, process=i) for i in range(2)])


def start_two_in_slurm(workdir, data_dir):
    """As two tasks of `srun`: no flags, JAX reads who they are from Slurm's variables."""
    shared = {"SLURM_JOB_ID": str(free_port() - SLURM_PORTS), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    tasks = [{**shared, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
    return start([command(workdir, data_dir, ("-m", "gconv.main"))] * 2, tasks)


def ends(pair, seconds=120):
    """The exit statuses and what each process said on standard error. Those that don't end are killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process.poll() is None for process in pair):
        time.sleep(0.01)
    for process in pair:
        process.kill()
    said = [process.communicate()[1] for process in pair]
    return [process.returncode for process in pair], said


def wait_for_records(workdir, more, pair):
    """Returns once the run has written some more records than it had."""
    path = workdir / "metrics.jsonl"
    before = len(read_jsonl(path))
    while len(read_jsonl(path)) < before + more:
        assert all(process.poll() is None for process in pair), [process.communicate()[1] for process in pair]
        time.sleep(0.002)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """A run of two processes that was never interrupted, and what each told. They find no data when they start."""
    workdir = tmp_path_factory.mktemp("two")
    pair = start_two(workdir, data_dir, ("-c", TELLING))
    told, said = zip(*(process.communicate(timeout=100) for process in pair), strict=True)
    assert [process.returncode for process in pair] == [0, 0], said
    assert "preparing" in said[0] and "step" in said[0] and "preparing" not in said[1] and "step" not in said[1]
    return workdir, [[json.loads(line) for line in text.splitlines() if not line.startswith("[Gloo]")] for text in told]


def test_two_processes_train_as_one_does(whole, data_dir, tmp_path):
    workdir, told = whole
    (alone,) = start([command(tmp_path, data_dir, ("-c", TELLING))], [{}])
    output, said = alone.communicate(timeout=100)
    assert alone.returncode == 0, said
    one = [json.loads(line) for line in output.splitlines()]
    (parameters, *batches), (parameters_0, *batches_0), (parameters_1, *batches_1) = one, *told
    assert parameters == parameters_0 == parameters_1
    assert len(batches) == STEPS + 1 and {len(batch) for batch in batches_0 + batches_1} == {4}
    assert [first + second for first, second in zip(batches_0, batches_1, strict=True)] == batches
    assert all(first != second for first, second in zip(batches_0, batches_1, strict=True))
    single, double = (read_jsonl(path / "metrics.jsonl") for path in (tmp_path, workdir))
    assert [(r["step"], r["split"]) for r in single] == [(r["step"], r["split"]) for r in double]
    np.testing.assert_allclose([r["loss"] for r in double], [r["loss"] for r in single], atol=1e-5)
    assert json.loads((workdir / "run.json").read_text())["processes"] == 2


def test_two_processes_stopped_killed_and_killed_again_end_with_the_same_bytes(whole, data_dir, tmp_path):
    pair = start_two(tmp_path, data_dir)
    wait_for_records(tmp_path, 2, pair)
    pair[1].send_signal(signal.SIGTERM)  # one of them is told, both stop
    statuses, said = ends(pair)
    assert statuses == [75, 75], said
    steps = {line for text in said for line in text.splitlines() if line.startswith("stopped: all is saved at step")}
    assert len(steps) == 1
    shutil.copytree(tmp_path, tmp_path / "alone")

    for victim in (1, 0):  # a worker, then the coordinator
        pair = start_two_in_slurm(tmp_path, data_dir)
        wait_for_records(tmp_path, 1, pair)
        pair[victim].kill()
        began = time.monotonic()
        statuses, said = ends(pair)
        assert time.monotonic() - began < 30
        assert statuses[victim] == -signal.SIGKILL and statuses[1 - victim] not in (0, 2, 75), said

    whole, _ = whole
    statuses, said = ends(start_two(tmp_path, data_dir))
    assert statuses == [0, 0] and "going on from step" in said[0], said
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    results = [json.loads((path / "result.json").read_text()) for path in (tmp_path, whole)]
    assert results[0]["params_sha256"] == results[1]["params_sha256"]

    # What two began one process can finish: with the same batches, so with the same losses within rounding.
    subprocess.run(command(tmp_path / "alone", data_dir, ("-m", "gconv.main")), check=True, capture_output=True)
    alone, double = (read_jsonl(path / "metrics.jsonl") for path in (tmp_path / "alone", whole))
    assert [(r["step"], r["split"]) for r in alone] == [(r["step"], r["split"]) for r in double]
    np.testing.assert_allclose([r["loss"] for r in alone], [r["loss"] for r in double], atol=1e-4)


READING = """
import sys
from pathlib import Path
import numpy as np
from gconv.training import processes
from gconv.training.checkpoint import read_newest

processes.join(sys.argv[1], 2, int(sys.argv[2]))
print("found", read_newest(Path(sys.argv[3]), {"a": np.zeros(3)})[0]["a"].tolist())
"""


def test_every_process_can_start_from_another_run(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, {"a": jnp.arange(3.0)}, {})
        checkpoints.wait()
    meet = f"localhost:{free_port()}"
    pair = start([[sys.executable, "-c", READING, meet, str(i), tmp_path / "checkpoints"] for i in range(2)])
    told, said = zip(*(process.communicate(timeout=100) for process in pair), strict=True)
    assert all("found [0.0, 1.0, 2.0]" in text for text in told), said


def test_one_task_of_slurm_trains_alone(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert not processes.join(None, None, None)


def test_a_config_that_had_to_measure_trains_alone_and_not_with_others(monkeypatch):
    assert jax.devices()  # as match=time leaves it
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    assert processes.join(None, None, None) is False
    monkeypatch.setenv("SLURM_NTASKS", "2")
    with pytest.raises(
        UserError, match=r"match=time can't be found by several processes: pass --config.model.features"
    ):
        processes.join(None, None, None)


def test_flags_that_go_together():
    with pytest.raises(UserError, match="--processes and --process missing"):
        processes.join("localhost:1", None, None)
    with pytest.raises(UserError, match="--coordinator missing"):
        processes.join(None, 2, 1)
