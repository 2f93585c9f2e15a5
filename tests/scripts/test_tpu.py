"""The scripts for Cloud TPU, against a stand-in for gcloud that keeps a slice of two workers in a folder."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = ROOT / "scripts/tpu"
NAMES = ("create", "setup", "run", "status", "logs", "babysit", "delete", "sweep")
SLICE = {
    "PROJECT_ID": "a project",
    "ZONE": "us-west4-a",
    "TPU_NAME": "slice",
    "ACCELERATOR_TYPE": "v5litepod-16",
    "BUCKET": "gs://a bucket",
}
# What a worker would install is not: uv and gcsfuse do nothing but to link the bucket.
STAND_INS = {
    "uv": "exit 0",
    "mountpoint": 'test -L "$2"',
    "gcsfuse": 'echo "$@" >>"$CLOUD/mounts"; rmdir "${@: -1}"; ln -s "$CLOUD/bucket" "${@: -1}"',
}
# Prints its arguments as they arrive, and does in its n-th run on a worker what the n-th argument says.
PROGRAM = r"""
printf '[%s]' "$@"; echo
record="bucket/my runs/$HOSTNAME"
echo ran >>"$record"
n=$(wc -l <"$record")
eval "${!n}"
"""
# For a program's first run: the slice is preempted once both workers are at it.
LOSE = 'until ls "bucket/my runs/w0" "bucket/my runs/w1"; do sleep 0.02; done; touch "$CLOUD/preempt"; sleep 60'


@pytest.fixture
def cloud(tmp_path):
    folder = tmp_path / "cloud"
    (folder / "bucket/my runs").mkdir(parents=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(ROOT / "tests/scripts/gcloud", programs / "gcloud")
    for name, body in STAND_INS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    (folder / "bucket/program").write_text(PROGRAM)
    yield folder
    for pid in folder.glob("*/run/pid"):  # whatever a failed test has left behind
        subprocess.run(["kill", "-KILL", "--", f"-{pid.read_text().strip()}"], stderr=subprocess.DEVNULL, check=False)


def run(cloud, name, *arguments, stdin="", **environment):
    path = f"{cloud.parent / 'bin'}:{os.environ['PATH']}"
    inherited = {key: value for key, value in os.environ.items() if key not in SLICE}
    return subprocess.run(
        [SCRIPTS / name, *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        env={**inherited, **SLICE, "PATH": path, "CLOUD": str(cloud), "POLL": "0.05", **environment},
        timeout=60,
    )


def calls(cloud):
    """The arguments of every call of gcloud."""
    log = cloud / "log"
    return [shlex.split(line) for line in log.read_text().splitlines()] if log.exists() else []


def kinds(cloud):
    return [f"{call[2]} {call[3]}" for call in calls(cloud)]


def wait_for(look, holds):
    for _ in range(100):
        seen = look()
        if holds(seen):
            return seen
    raise AssertionError(seen)


@pytest.mark.parametrize("name", NAMES)
def test_variables_that_are_missing_are_named_in_one_line(cloud, name):
    done = run(cloud, name, ZONE="", TPU_NAME="")
    assert done.returncode == 2 and not calls(cloud)
    assert done.stderr == "error: ZONE TPU_NAME must be set; docs/pods.md says to what\n"


@pytest.mark.parametrize(
    "name, arguments, environment, message",
    [
        ("create", [], {"ACCELERATOR_TYPE": ""}, "ACCELERATOR_TYPE must be set"),
        ("setup", [], {"BUCKET": ""}, "BUCKET must be set"),
        ("babysit", ["true"], {"BUCKET": ""}, "BUCKET must be set"),
        ("babysit", [], {}, "expected a command"),
        ("run", [], {}, "expected a command"),
        ("babysit", ["--help"], {}, "expected a command"),
        ("run", ["--help"], {}, "expected a command"),
        ("delete", ["now"], {}, "delete takes no arguments; got: now"),
        ("sweep", ["0"], {}, "expected a number of slices"),
    ],
)
def test_bad_input_gets_one_line(cloud, name, arguments, environment, message):
    done = run(cloud, name, *arguments, **environment)
    assert done.returncode == 2 and not calls(cloud)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and message in done.stderr


def test_a_dry_run_prints_every_command_and_makes_none(cloud):
    done = run(cloud, "babysit", "python", "-m", "gconv.main", "--workdir=bucket/my runs/a", DRY_RUN="1")
    assert done.returncode == 0 and not calls(cloud), done.stderr
    printed = [shlex.split(line) for line in done.stdout.splitlines()]
    place = ["--project=a project", "--zone=us-west4-a"]
    assert [line[:5] for line in printed] == [
        ["gcloud", "compute", "tpus", "queued-resources", "describe"],
        ["gcloud", "compute", "tpus", "queued-resources", "create"],
        ["gcloud", "compute", "tpus", "tpu-vm", "scp"],
        *[["gcloud", "compute", "tpus", "tpu-vm", "ssh"]] * 3,
    ]
    assert all(set(place) <= set(line) for line in printed)
    create = printed[1]
    assert create[5] == "slice" and {"--node-id=slice", "--accelerator-type=v5litepod-16", "--spot"} <= set(create)
    assert "--runtime-version=v2-alpha-tpuv5-lite" in create
    started = next(word for word in printed[4] if word.startswith("--command=")).removeprefix("--command=")
    assert shlex.split(started)[2:] == ["python", "-m", "gconv.main", "--workdir=bucket/my runs/a"]
    for name in ("status", "logs", "delete"):
        done = run(cloud, name, DRY_RUN="1")
        assert done.returncode == 0 and done.stdout.startswith("gcloud compute tpus ") and not calls(cloud)


def test_what_is_asked_for(cloud):
    assert run(cloud, "create", SPOT="0", RUNTIME_VERSION="another", TPU_NAME="a name").returncode == 0
    (call,) = calls(cloud)
    assert "--spot" not in call and "--runtime-version=another" in call and call[4] == "a name"


AWKWARD = ["a  b", "it's", '"quoted"', "$HOME", "back\\slash", "*", "", "two\nlines", "ünï"]


def test_a_command_is_run_on_every_worker_as_it_is_given(cloud):
    (cloud / "state").write_text("ACTIVE\n")
    for worker in ("w0", "w1"):
        (cloud / worker).mkdir()
    assert run(cloud, "setup").returncode == 0
    (scp, _) = calls(cloud)
    assert scp[5] == "slice:gconv.tar.gz" and "--worker=all" in scp
    assert (cloud / "mounts").read_text().count("--enable-streaming-writes=false a bucket bucket\n") == 2
    assert "idle" in run(cloud, "status").stdout
    done = run(cloud, "run", "bash", "-c", 'printf "<%s>" "$@"; exit 3', "_", *AWKWARD)
    assert done.returncode == 0, done.stderr
    status = wait_for(lambda: run(cloud, "status").stdout, lambda status: "running" not in status)
    assert "slice: ACTIVE" in status and "w0: exited 3" in status and "w1: exited 3" in status
    expected = "".join(f"<{argument}>" for argument in AWKWARD)
    for worker in ("w0", "w1"):
        assert (cloud / worker / "run/log").read_text() == expected
    assert expected in run(cloud, "logs", WORKER="1").stdout
    assert "--worker=1" in calls(cloud)[-1] and "--command=tail -n 100 run/log" in calls(cloud)[-1]


def test_a_command_outlives_the_connection_and_is_told_to_stop(cloud):
    (cloud / "state").write_text("ACTIVE\n")
    for worker in ("w0", "w1"):
        (cloud / worker).mkdir()
    run(cloud, "setup")
    run(cloud, "run", "bash", "-c", "trap 'exit 75' TERM; echo up; while true; do sleep 0.02; done")
    wait_for(lambda: run(cloud, "logs").stdout, lambda log: "up" in log)
    assert run(cloud, "status").stdout.count(": running") == 2
    again = run(cloud, "run", "true")
    assert again.returncode == 2 and "a command is running already" in again.stderr
    worker = cloud / "w0"
    stop = [worker / "gconv/scripts/tpu/worker", "stop"]
    subprocess.run(stop, env={**os.environ, "HOME": str(worker)}, check=True)
    status = wait_for(lambda: run(cloud, "status").stdout, lambda status: status.count(": running") < 2)
    assert "w0: exited 75" in status and "w1: running" in status


def test_after_a_preemption_it_is_created_again_and_goes_on(cloud):
    """First the slice is lost, then the command is stopped, then it is whole."""
    program = ["bash", "bucket/program", LOSE, "exit 75", "exit 0"]
    done = run(cloud, "babysit", *program)
    assert done.returncode == 0, done.stderr
    told = kinds(cloud)
    assert told.count("queued-resources create") == 2 and told.count("queued-resources delete") == 1
    assert told.count("tpu-vm scp") == 2
    assert "is SUSPENDED; creating it anew" in done.stderr and "starting the command again" in done.stderr
    assert (cloud / "bucket/my runs/w0").read_text() == "ran\n" * 3  # the bucket has outlived the machines
    arrived = "".join(f"[{argument}]" for argument in program[2:])
    assert (cloud / "w1/run/log").read_text() == f"{arrived}\n" * 2  # of the second machines
    before = len(calls(cloud))
    assert run(cloud, "babysit", *program).returncode == 0  # done is done: two looks, and nothing is started
    assert kinds(cloud)[before:] == ["queued-resources describe", "tpu-vm ssh"]


def test_machines_that_are_gone_before_the_resource_says_so(cloud):
    (cloud / "lag").touch()
    done = run(cloud, "babysit", "bash", "bucket/program", LOSE, "exit 0")
    assert done.returncode == 0, done.stderr
    assert "is ACTIVE, but its machines are PREEMPTED; creating it anew" in done.stderr


def test_a_cloud_that_is_busy_is_asked_again_but_not_at_first(cloud):
    (cloud / "busy").touch()
    assert run(cloud, "babysit", "true").returncode == 1
    done = run(cloud, "babysit", "bash", "bucket/program", f'touch "$CLOUD/busy"; {LOSE}', "exit 0")
    assert done.returncode == 0 and "RESOURCE_EXHAUSTED" in done.stderr
    assert kinds(cloud).count("queued-resources create") == 1 + 3


def test_a_command_that_refuses_its_input_is_not_repeated(cloud):
    program = ["bash", "bucket/program", "echo 'error: config.lr'; exit 2", "exit 0"]
    done = run(cloud, "babysit", *program)
    assert done.returncode == 2 and "the command refuses its input: w0: exited 2" in done.stderr
    assert "error: config.lr" in done.stdout and (cloud / "bucket/my runs/w0").read_text() == "ran\n"
    assert run(cloud, "babysit", *program).returncode == 0  # started anew, what was wrong may have been mended


def test_a_command_that_always_fails_is_given_up(cloud):
    done = run(cloud, "babysit", "bash", "bucket/program", *["exit 7"] * 9, RETRIES="2")
    assert done.returncode == 1 and "ended too often" in done.stderr and "w1: exited 7" in done.stderr
    assert (cloud / "bucket/my runs/w0").read_text() == "ran\n" * 3


def test_a_question_that_is_refused_ends_it_at_once(cloud):
    (cloud / "refuse").touch()
    for name, arguments in (("babysit", ["true"]), ("status", [])):
        done = run(cloud, name, *arguments)
        assert done.returncode == 1 and "PERMISSION_DENIED" in done.stderr


def test_a_sweep_gives_each_command_to_a_slice_and_all_back(cloud):
    """With one slice, which is all that the stand-in has: one command after another, on the same machines."""
    commands = (
        "echo first 'and  spaces' >>bucket/told\necho \"second\" >>bucket/told; exit 2\necho third >>bucket/told\n"
    )
    done = run(cloud, "sweep", "1", stdin=commands)
    assert done.returncode != 0 and "some commands have failed" in done.stderr
    told = (cloud / "bucket/told").read_text()
    assert told == "first and  spaces\n" * 2 + "second\n" * 2 + "third\n" * 2
    assert kinds(cloud).count("queued-resources create") == 1 and kinds(cloud)[-1] == "queued-resources delete"
    assert all("slice-0" in " ".join(call) for call in calls(cloud))


def test_the_task_of_skypilot_installs_and_runs():
    task = yaml.safe_load((SCRIPTS / "sky.yaml").read_text())
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75] and set(task["envs"]) == {
        "BUCKET",
        "COMMAND",
    }
    (script, verb, bucket) = shlex.split(task["setup"])
    assert (verb, bucket) == ("setup", "$BUCKET") and (ROOT / script).exists()
    environment = {**os.environ, "COMMAND": "printf '<%s>' 'a  b'"}
    done = subprocess.run(["bash", "-c", task["run"]], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "<a  b>"


def test_every_variable_and_script_has_its_place_in_the_docs():
    docs = (ROOT / "docs/pods.md").read_text()
    for name in (*SLICE, "RUNTIME_VERSION", "SPOT", "DRY_RUN"):
        assert f"`{name}`" in docs
    for name in NAMES:
        assert f"scripts/tpu/{name}" in docs


def test_shellcheck_passes():
    shellcheck = shutil.which("shellcheck", path=f"{ROOT / '.venv/bin'}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck isn't installed")
    scripts = [
        *(path for path in SCRIPTS.iterdir() if not path.suffix),
        *(ROOT / "scripts" / name for name in ("environment", "quickstart", "test")),
    ]
    scripts += [ROOT / ".ci/run", ROOT / "tests/scripts/gcloud"]
    done = subprocess.run([shellcheck, "-x", "-P", "SCRIPTDIR", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
