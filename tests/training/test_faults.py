"""What kills a run from outside: signals, and a full disk. `python -m scripts.chaos` does the same for longer."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from gconv.training.checkpoint import Checkpoints
from gconv.training.metrics import read_jsonl

STEPS = 60


def command(workdir, data_dir):
    config = {"steps": STEPS, "log_every": 5, "eval_every": 10, "checkpoint_every": 10, "data_dir": data_dir}
    config |= {"model.layers": 1, "model.features": 8}
    options = [f"--config.{name}={value}" for name, value in config.items()]
    return [
        *(sys.executable, "-m", "gconv.main", "--config=configs/listops.py:gconv,smoke", f"--workdir={workdir}"),
        *options,
    ]


def what_is_left(workdir):
    """All that has to be the same: the records, and the digest of parameters, optimiser, best parameters and notes."""
    record = json.loads((workdir / f"checkpoints/{STEPS}/record/metadata").read_text())
    return (workdir / "metrics.jsonl").read_bytes(), record["sha256"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    subprocess.run(command(workdir, data_dir), check=True, capture_output=True)
    return what_is_left(workdir)


def test_killed_and_stopped_at_random_a_run_ends_with_the_same_bytes(whole, data_dir, tmp_path):
    rng = np.random.default_rng(0)
    for kind in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        before = len(read_jsonl(tmp_path / "metrics.jsonl"))
        process = subprocess.Popen(command(tmp_path, data_dir), stderr=subprocess.PIPE, text=True)
        # Somewhere after the first record of this attempt, inside saves too.
        while len(read_jsonl(tmp_path / "metrics.jsonl")) <= before:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(kind)
        said = process.communicate(timeout=60)[1]
        if kind == signal.SIGTERM and process.returncode == 75:
            assert "stopped: all is saved at step" in said
        else:  # a signal may come once all is done
            assert process.returncode in (-kind, 0), said
    done = subprocess.run(command(tmp_path, data_dir), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert what_is_left(tmp_path) == whole


def test_a_run_started_again_finds_its_programs(data_dir, tmp_path):
    environment = {**os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    del environment["JAX_COMPILATION_CACHE_DIR"]
    workdir, programs = tmp_path / "run", []
    for _ in range(2):
        subprocess.run(command(workdir, data_dir), env=environment, check=True, capture_output=True)
        programs.append({path.name for path in (workdir / "compiled").glob("*-cache")})
        shutil.rmtree(workdir / "checkpoints")
        for name in ("result.json", "metrics.jsonl"):
            (workdir / name).unlink()
    assert programs[0] == programs[1] and any(name.startswith("jit_train_step") for name in programs[0])
    devices = json.loads((workdir / "run.json").read_text())["devices"]
    assert (devices > 1) == (len(os.sched_getaffinity(0)) > 1)  # each core one, as far as they divide the batch


# A file system of its own for the run, which is filled up as soon as there is a checkpoint.
FULL_DISK = """
mount -t tmpfs -o size=8m tmpfs "$0" || exit 99
(while ! ls "$0"/run/checkpoints/*/commit_success.txt; do sleep 0.005; done; head -c 9m /dev/zero >"$0/filled") 2>&1 &
"$@"
status=$?
cp -r "$0/run" "$0.left"
exit $status
"""


def test_a_full_disk_ends_the_run_and_leaves_the_step_before(whole, data_dir, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    isolated = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*isolated, 'mount -t tmpfs tmpfs "$0"', small]).returncode:
        pytest.skip("a small file system can't be mounted here")
    done = subprocess.run(
        [*isolated, FULL_DISK, small, *command(small / "run", data_dir)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert any(line.startswith("error: ") and "can't be written" in line for line in done.stderr.splitlines())
    left = tmp_path / "small.left"
    assert not (left / "result.json").exists()
    done = subprocess.run(command(left, data_dir), capture_output=True, text=True)
    assert done.returncode == 0 and "going on from step" in done.stderr, done.stderr
    assert what_is_left(left) == whole


def test_a_failed_save_is_noticed_without_another(tmp_path):
    program = """
import os, sys, threading, time
import jax.numpy as jnp
from pathlib import Path
from gconv.errors import UserError
from gconv.training.checkpoint import Checkpoints

threading.excepthook = lambda arguments: None
folder = Path(sys.argv[1])
checkpoints = Checkpoints(folder)
checkpoints.save(1, {"a": jnp.arange(3)}, {})
checkpoints.wait()
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))  # every larger file fails, as on a full disk
checkpoints.save(2, {"a": jnp.arange(100_000)}, {})
for _ in range(6000):  # a minute, on a busy machine
    time.sleep(0.01)
    try:
        checkpoints.check()
    except UserError as error:
        print("noticed", sorted(os.listdir(folder))[0], flush=True)  # _exit drops what is buffered
        os._exit(0)
os._exit(1)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "c"], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0 and done.stdout.strip() == "noticed 1", done.stderr


def test_notes_are_those_of_the_moment_of_the_save(tmp_path):
    notes = {"since_log": [1.0]}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, {"a": jnp.arange(4)}, notes)
        notes["since_log"].append(2.0)  # as the loop does while the notes are being written
        checkpoints.wait()
        assert checkpoints.restore({"a": jnp.zeros(4, jnp.int32)})[2] == {"since_log": [1.0]}
