"""Jobs by submitit, on its executor that runs them here."""

import os
import signal
import subprocess
import sys
import time
import types

import pytest

from gconv.errors import UserError

submitit = pytest.importorskip("submitit")
slurm = pytest.importorskip("scripts.slurm")


def local(commands, folder):
    return slurm.submit(commands, "local", str(folder), timeout_min=10)


def test_commands_are_run_as_they_are_given(tmp_path):
    program = "import sys; open(sys.argv[1], 'w').write(repr(sys.argv[2:]))"
    awkward = ["a  b", "$HOME", "it's", '"', "*", ""]
    commands = [[sys.executable, "-c", program, str(tmp_path / name), *awkward] for name in ("one", "other")]
    for job in local(commands, tmp_path / "logs"):
        job.result()
    assert (tmp_path / "one").read_text() == (tmp_path / "other").read_text() == repr(awkward)


# Counts its runs. In the first it waits for SIGTERM and takes a while to save; in the second it was stopped by another.
PROGRAM = """
import os, signal, sys, time
record = sys.argv[1]
with open(record, "a") as file:
    file.write("began ")
runs = open(record).read().count("began")

def save(signum, frame):
    time.sleep(0.3)
    open(record, "a").write("saved ")
    sys.exit(75)

signal.signal(signal.SIGTERM, save)
if runs == 1:
    open(record + ".job", "w").write(str(os.getppid()))
    os.rename(record + ".job", record + ".up")
    time.sleep(60)
if runs == 2:
    save(None, None)
open(record, "a").write("done")
"""


def test_a_job_whose_time_is_over_saves_and_goes_on(tmp_path):
    record = tmp_path / "record"
    (job,) = local([[sys.executable, "-c", PROGRAM, str(record)]], tmp_path / "logs")
    while not (tmp_path / "record.up").exists() and not job.done():
        time.sleep(0.02)
    # What a cluster sends GRACE seconds before a job's time is over.
    os.kill(int((tmp_path / "record.up").read_text()), signal.SIGUSR2)
    job.result()
    assert record.read_text() == "began saved began saved began done"


def test_a_command_that_fails_fails_its_job(tmp_path):
    (job,) = local([["bash", "-c", "exit 2"]], tmp_path)
    with pytest.raises(submitit.core.utils.FailedJobError, match="ended with status 2"):
        job.result()


def test_where_there_is_no_cluster_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="submitting to slurm failed: "):
        slurm.submit([["true"]], "slurm", str(tmp_path))


def test_the_command(tmp_path):
    def command(*arguments, stdin=""):
        line = [sys.executable, "-m", "scripts.slurm", f"--logs={tmp_path / 'logs'}", "--cluster=local", *arguments]
        return subprocess.run(line, capture_output=True, text=True, input=stdin, timeout=60, check=False)

    done = command("-", stdin=f"echo 'a  b' >'{tmp_path}/one file'\n\ntrue\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("job ") == 2
    deadline = time.monotonic() + 30
    while not os.path.exists(tmp_path / "one file") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "one file").read_text() == "a  b\n"
    failed = command()
    assert failed.returncode == 2 and failed.stderr.startswith("error: expected a command after --, or - and")
    done = command("-", stdin="\n")  # what a table lists that has been made
    assert done.returncode == 0 and done.stdout.startswith("nothing to submit")


def test_a_table_is_made_by_the_commands_that_it_lists(tmp_path, monkeypatch, capfd):
    """A sweep's first seeds, then, when they have decided, the others; then nothing is left."""
    from experiments import run
    from experiments.grid import Part, Table

    quick = {"steps": 2, "eval_every": 2, "log_every": 2}
    sweep = ({"optim.lr": 1e-3}, {"optim.lr": 1e-2})
    one = Table("One", {"a": Part("gconv")}, {"ListOps": Part("listops,smoke", quick)}, seeds=(0, 1), sweep=sweep)
    monkeypatch.setattr(run.grid, "table", lambda name: one)
    given = {"workdir": str(tmp_path), "preset": "", "columns": None, "data_dir": str(tmp_path / "data")}
    monkeypatch.setattr(run.flags, "FLAGS", types.SimpleNamespace(**given, commands=True, dry_run=False))
    for expected in (2, 1, 0):
        run.main(["run", "t"])
        listed = capfd.readouterr().out.splitlines()
        assert len(listed) == expected and all("--config.seed=1" in line for line in listed if expected == 1)
        if listed:
            for job in local([["bash", "-c", line] for line in listed], tmp_path / "logs"):
                job.result()
