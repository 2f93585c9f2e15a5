"""Cuts small runs off in every way there is, and counts what is lost: python -m scripts.chaos --minutes=5

A run of one process and a run of two that nobody disturbs give the bytes to end with. Then run after run, of one or
two processes, is killed (SIGKILL) or asked to stop (SIGTERM) at random moments, inside saves too, and its newest
checkpoint damaged, until it has had its share and may finish. Lost is a run that ends with other bytes (records,
parameters, optimiser), with a status that doesn't fit, or not within half a minute of a kill.
"""

import collections
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from gconv import cli

_MINUTES = flags.DEFINE_float("minutes", 5, "how long; the run that is under way is finished", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "of what happens when")

STEPS = 200
# How long after a signal all have ended: peers notice one that died; who is to stop may first have to compile.
SECONDS_TO_END = {signal.SIGKILL: 30, signal.SIGTERM: 120}


def start(workdir: Path, data_dir: Path, processes: int) -> list[subprocess.Popen]:
    config = {"steps": STEPS, "log_every": 5, "eval_every": 20, "checkpoint_every": 10, "data_dir": data_dir}
    config |= {"model.layers": 1, "model.features": 8, "model.dropout": 0.1}
    command = [sys.executable, "-m", "gconv.main", "--config=configs/listops.py:gconv,smoke", f"--workdir={workdir}"]
    command += [f"--config.{name}={value}" for name, value in config.items()]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator=localhost:{port}", f"--processes={processes}"] if processes > 1 else []
    commands = [[*command, *together, f"--process={i}"] if together else command for i in range(processes)]
    with _log(workdir).open("ab") as log:
        return [subprocess.Popen(one, stdout=log, stderr=log) for one in commands]


def statuses(group: list[subprocess.Popen], seconds: float) -> list[int]:
    """The exit statuses of processes that should end within some seconds; those that don't are killed."""
    deadline = time.monotonic() + seconds
    try:
        return [process.wait(max(deadline - time.monotonic(), 0.01)) for process in group]
    except subprocess.TimeoutExpired as error:
        for process in group:
            process.kill()
            process.wait()
        raise Lost(f"not ended after {seconds:.0f} s") from error


class Lost(Exception):
    """What a run was to keep, and didn't."""


def what_is_left(workdir: Path) -> tuple[bytes, str]:
    """The records, and the digest of the last checkpoint: parameters, optimiser, and what the host remembers."""
    record = json.loads((workdir / f"checkpoints/{STEPS}/record/metadata").read_text())
    return (workdir / "metrics.jsonl").read_bytes(), record["sha256"]


def flip(checkpoint: Path) -> None:
    """Flips a bit in the middle of the largest file."""
    file = _largest(checkpoint)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(checkpoint: Path) -> None:
    """Cuts the largest file in half."""
    file = _largest(checkpoint)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(checkpoint: Path) -> None:
    """Leaves the folder without its files."""
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def stray(checkpoint: Path) -> None:
    """Makes an empty folder that looks like a newer step."""
    (checkpoint.parent / "999").mkdir()


DAMAGES = (flip, truncate, empty, stray)


def _largest(folder: Path) -> Path:
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def disturb(group: list[subprocess.Popen], workdir: Path, rng: random.Random) -> str | None:
    """Kills or stops a run at a random moment; returns how, or None if it was done before. Lost if it ends badly."""
    # Mostly not before it trains, else from when it first speaks, as two do when they have met: for one that never came
    # a process waits minutes.
    awaited = workdir / "metrics.jsonl" if rng.random() < 0.8 else _log(workdir)
    size = _size(awaited)
    while _size(awaited) == size and all(process.poll() is None for process in group):
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 2))
    victim, kind = rng.choice(group), rng.choice([signal.SIGKILL, signal.SIGTERM])
    victim.send_signal(kind)
    of = "alone" if len(group) == 1 else "coordinator of 2" if victim is group[0] else "worker of 2"
    try:
        ended = statuses(group, SECONDS_TO_END[kind])
    except Lost as lost:
        raise Lost(f"{kind.name}, {of}: {lost}") from lost
    if set(ended) == {0}:
        return None
    if kind == signal.SIGTERM and set(ended) == {75}:
        return f"SIGTERM, {of}: saved"
    done = (workdir / "result.json").exists()
    if victim.returncode == -kind and (done or all(ended)):
        return f"{kind.name}, {of}" + (": outside of training" if kind == signal.SIGTERM else "")
    raise Lost(f"{kind.name}, {of}: exit statuses {ended}")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _log(workdir: Path) -> Path:
    return workdir.with_suffix(".log")


def damage(workdir: Path, rng: random.Random) -> str | None:
    """Damages the newest checkpoint if there is one before it; returns how."""
    folder = workdir / "checkpoints"
    steps = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.exists() else []
    if len(steps) < 2:
        return None
    how = rng.choice(DAMAGES)
    how(folder / str(steps[-1]))
    return f"checkpoint: {how.__name__}"


def one_run(
    workdir: Path, data_dir: Path, processes: int, rng: random.Random, faults: collections.Counter[str]
) -> None:
    """A run with some faults, to its end."""
    for _ in range(rng.randint(2, 6)):
        faults.update(filter(None, [disturb(start(workdir, data_dir, processes), workdir, rng)]))
        if rng.random() < 0.4 and not (workdir / "result.json").exists():
            faults.update(filter(None, [damage(workdir, rng)]))
    ended = statuses(start(workdir, data_dir, processes), 300)
    if set(ended) != {0}:
        raise Lost(f"the last start ended with {ended}")


def main(argv: list[str]) -> None:
    del argv
    rng, faults = random.Random(_SEED.value), collections.Counter[str]()
    losses: list[str] = []
    runs, deadline = 0, time.monotonic() + 60 * _MINUTES.value
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        root = Path(folder)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "compiled"))
        expected = {}
        for processes in (1, 2):
            if set(statuses(start(root / f"whole{processes}", root, processes), 300)) != {0}:
                sys.exit(_log(root / f"whole{processes}").read_text())
            expected[processes] = what_is_left(root / f"whole{processes}")
        while time.monotonic() < deadline:
            processes = 1 + runs % 2
            workdir = root / f"run{runs}"
            runs += 1
            try:
                one_run(workdir, root, processes, rng, faults)
                if what_is_left(workdir) != expected[processes]:
                    raise Lost("other bytes at the end")
            except Lost as lost:
                losses.append(f"run {runs}, {processes} processes: {lost}")
                print(losses[-1], _log(workdir).read_text()[-4000:], sep="\n", file=sys.stderr)
            print(f"{runs} runs, {faults.total()} faults, {len(losses)} losses", file=sys.stderr)
    for fault, count in sorted(faults.items()):
        print(f"{count:5}  {fault}")
    print(f"{faults.total():5}  faults in {runs} runs, {len(losses)} losses", *losses, sep="\n       ")
    sys.exit(1 if losses else 0)


if __name__ == "__main__":
    cli.run(main)
