"""Runs commands as jobs of a Slurm cluster, by submitit; jobs that are stopped before their end are queued again.

    python -m scripts.slurm --hours=24 --nodes=2 --gpus_per_node=8 -- python -m gconv.main --config=… --workdir=DIR
    python -m experiments.run NAME --workdir=DIR --commands | python -m scripts.slurm --hours=24 --gpus_per_node=1 -

A hyphen takes commands from standard input, a line each: they become one array of jobs. The folder of the repository
and DIR must be on a file system that the nodes share.

Before a job's time is over, or another takes its place, its command is told to stop (SIGTERM), saves, and goes on when
the job runs again. Jobs have a process for each GPU, since that is what JAX expects of Slurm.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from gconv import cli
from gconv.errors import UserError

_HOURS = flags.DEFINE_float("hours", 24, "time of a job; what isn't done by then goes on in its next", lower_bound=0.1)
_NODES = flags.DEFINE_integer("nodes", 1, "nodes of a job", lower_bound=1)
_GPUS = flags.DEFINE_integer("gpus_per_node", 0, "GPUs of a node", lower_bound=0)
_CPUS = flags.DEFINE_integer("cpus_per_task", 4, "CPU cores of a process", lower_bound=1)
_PARTITION = flags.DEFINE_string("partition", None, "partition of the cluster; its default if none is named")
_NAME = flags.DEFINE_string("name", "gconv", "what the queue shows")
_LOGS = flags.DEFINE_string("logs", "runs/slurm", "folder of the jobs' logs, shared by the nodes")
_CLUSTER = flags.DEFINE_enum("cluster", "slurm", ["slurm", "local"], "local runs the jobs here, to try them")

SAVED = 75  # the status of a run that was told to stop, saved, and wants to be started again
GRACE = 120  # seconds from the signal to the end of a job: for saving


class Job:
    """A command, as what submitit calls on a node."""

    def __init__(self, command: Sequence[str]):
        self.command = list(command)
        self.process: subprocess.Popen | None = None

    def __call__(self) -> None:
        while True:
            self.process = subprocess.Popen(self.command)
            status = self.process.wait()
            if status != SAVED:
                break
            # Told to stop by Slurm itself, which ends this process next, or by nobody who ends it.
        if status:
            raise RuntimeError(f"{self.command} ended with status {status}")

    def checkpoint(self) -> Any:
        """Called in a signal handler, when the job's time is nearly over: what is to be run next."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None and self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGTERM)
            # Popen.wait, which this has interrupted, holds a lock: another one would never return.
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Job(self.command))


def submit(commands: Sequence[Sequence[str]], cluster: str, logs: str, **parameters: Any) -> list[Any]:
    """The submitit jobs of some commands. UserError where the cluster can't be reached."""
    try:
        import submitit
    except ImportError as error:
        raise UserError("submitit is missing: pip install -e .[slurm]") from error
    try:
        executor = submitit.AutoExecutor(logs, cluster=cluster, slurm_max_num_timeout=1000, local_max_num_timeout=1000)
        executor.update_parameters(slurm_signal_delay_s=GRACE, **parameters)
        with executor.batch():
            return [executor.submit(Job(command)) for command in commands]
    except (OSError, RuntimeError, submitit.core.utils.FailedJobError) as error:
        raise UserError(f"submitting to {cluster} failed: {error}") from error


def main(argv: list[str]) -> None:
    if argv[1:] == ["-"]:
        # A line is the shell's to read, as when it is typed.
        commands = [["bash", "-c", line.strip()] for line in sys.stdin if line.strip()]
        if not commands:
            print("nothing to submit: standard input has no command")
            return
    elif argv[1:]:
        commands = [argv[1:]]
    else:
        raise UserError("expected a command after --, or - and commands on standard input")
    parameters = {
        "name": _NAME.value,
        "timeout_min": round(60 * _HOURS.value),
        "nodes": _NODES.value,
        "gpus_per_node": _GPUS.value,
        "tasks_per_node": max(1, _GPUS.value),
        "cpus_per_task": _CPUS.value,
    }
    if _PARTITION.value:
        parameters["slurm_partition"] = _PARTITION.value
    for job, command in zip(submit(commands, _CLUSTER.value, _LOGS.value, **parameters), commands, strict=True):
        print(f"job {job.job_id}: {' '.join(command)}")
        print(f"  its log: {job.paths.stdout}")


if __name__ == "__main__":
    cli.run(main)
