"""The run directory: configuration, records, progress, result.

config.json, run.json     the resolved config; versions, command and devices
data.json                 what the data was
metrics.jsonl             what was learnt, a record a line: the same bytes for the same run, interrupted or not
timings.jsonl             how long it took: `seconds` of training, of evaluation and of waiting for checkpoints
profile/                  a trace of some steps, if one was asked for
tensorboard/              the same numbers for TensorBoard
checkpoints/, damaged/    the last two; those that were found not to be what was written
compiled/                 programs, for the next start
failed                    why, if the loss was no longer finite
result.json               written last
"""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import IO, Any

import jax
from tqdm import tqdm

import gconv
from gconv.cores import usable_cores
from gconv.errors import UserError, one_line
from gconv.progress import say
from gconv.training import processes

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
# Where a run happens, what is watched and how often it is saved, not what it computes.
_MAY_CHANGE = {"config": ("mesh", "data_dir", "resident_gib", "profile", "checkpoint_every"), "data": ("source",)}


def in_use(workdir: Path) -> bool:
    """Whether a run on this machine owns the folder now."""
    if not (workdir / ".lock").exists():
        return False
    with (workdir / ".lock").open("r+") as lock:
        return not _take(lock)


def _take(lock: IO[str]) -> bool:
    """Takes a lock, which lasts until the file is closed; False if another process has it. UserError without locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(f"{lock.name} can't be locked: {error.strerror}") from error
    return True


# A run that starts waits so long for its lock, which `in_use` of another process holds for a moment when it looks.
PATIENCE_SECONDS = 1.0


class RunDirectory:
    """Owns a workdir for the length of a run. Of several processes the first does; for the others nothing is written.

    UserError if another run owns it, or if it holds a run with another config, unless that isn't finished and
    `accept_changes`.
    """

    def __init__(self, workdir: str, config: dict[str, Any], steps: int, accept_changes: bool = False):
        self.path = Path(workdir)
        self._config, self._steps = config, steps
        self._bar: tqdm | None = None
        self._open = contextlib.ExitStack()
        if not processes.is_first():
            return
        with contextlib.ExitStack() as stack:  # closes what was opened if anything here fails
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((self.path / ".lock").open("w"))
            except OSError as error:
                raise UserError(f"workdir {workdir} can't be written: {error.strerror}") from error
            until = time.monotonic() + PATIENCE_SECONDS
            while not _take(lock):
                if time.monotonic() > until:
                    raise UserError(f"workdir {workdir} is in use by another run")
                time.sleep(0.05)
            changed = "; ".join(self._changes("config.json", config))
            if changed and (self.path / "result.json").exists():
                raise UserError(f"workdir {self.path} holds a finished run with another config: {changed}")
            if changed and not accept_changes:
                raise UserError(
                    f"workdir {self.path} holds a run with another config: {changed};"
                    " --accept_changes goes on with this one"
                )
            if changed:
                say(f"WARNING: going on with another config: {changed}")
            self._open = stack.pop_all()

    def _changes(self, name: str, content: Any) -> list[str]:
        """Where what the folder holds under that name, if anything, differs from `content`."""
        path = self.path / name
        return differences(read_json(path), json.loads(json.dumps(content)), path.stem) if path.exists() else []

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of a finished run."""
        path = self.path / "result.json"
        return read_result(path) if processes.from_first(path.exists()) else None

    def start(self, step: int, data: dict[str, Any]) -> None:
        """Writes what the run is, and opens the records at a step: what was written beyond it is dropped.

        UserError if the run began on other data, or if at step 0 the records show that there have been checkpoints.
        """
        if not processes.is_first():
            return
        reached = max((record["step"] for record in read_jsonl(self.path / "metrics.jsonl")), default=0)
        if step == 0 and reached > 2 * self._config.get("checkpoint_every", reached):
            raise UserError(
                f"workdir {self.path} has records up to step {reached:,} and no checkpoint; bring its checkpoints/"
                " back, or remove the folder to start anew"
            )
        changed = "; ".join(self._changes("data.json", data))
        if changed:
            raise UserError(f"workdir {self.path} holds a run with other data: {changed}")
        (self.path / "failed").unlink(missing_ok=True)
        write_json(self.path / "config.json", self._config)
        write_json(self.path / "data.json", data)
        write_json(
            self.path / "run.json",
            {
                "command": shlex.join(["python", *sys.orig_argv[1:]]),
                "gconv": gconv.__version__,
                "python": sys.version.split()[0],
                "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
                "device": device_name(),
                "devices": jax.device_count(),
                "processes": jax.process_count(),
            },
        )
        for name in ("metrics.jsonl", "timings.jsonl"):
            path = self.path / name
            kept = [record for record in read_jsonl(path) if record["step"] <= step and record.get("split") != "test"]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
            partial.replace(path)
        self._metrics = self._open.enter_context((self.path / "metrics.jsonl").open("a"))
        self._timings = self._open.enter_context((self.path / "timings.jsonl").open("a"))
        self._tensorboard = _summary_writer(self.path / "tensorboard", step + 1)
        self._open.callback(self._tensorboard.close)
        if sys.stderr.isatty():
            self._bar = tqdm(total=self._steps, initial=step, desc=self.path.name, dynamic_ncols=True, file=sys.stderr)
            self._open.callback(self._bar.close)

    def fail(self, reason: str) -> None:
        """Writes why a run can't go on."""
        if processes.is_first():
            (self.path / "failed").write_text(reason + "\n")

    def step_done(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def record(self, step: int, split: str, numbers: dict[str, float]) -> None:
        """Writes a record of a split at a step, and shows it."""
        if not processes.is_first():
            return
        self._metrics.write(json.dumps({"step": step, "split": split, **numbers}) + "\n")
        self._metrics.flush()
        for name, value in numbers.items():
            self._tensorboard.add_scalar(f"{split}/{name}", value, step)
        if self._bar is not None and split == "train":
            self._bar.set_postfix(loss=f"{numbers['loss']:.4f}", accuracy=f"{numbers['accuracy']:.3f}")
        else:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            say(f"step {step:>7,} of {self._steps:,}  {split:<10}  {shown}")

    def record_time(self, step: int, examples: int, seconds: float) -> None:
        """Writes how long the examples since the last such record took, evaluation and checkpoints not counted."""
        if not processes.is_first():
            return
        self._timings.write(json.dumps({"step": step, "examples": examples, "seconds": seconds}) + "\n")
        self._timings.flush()
        self._tensorboard.add_scalar("examples_per_second", examples / seconds, step)

    def record_pause(self, step: int, split: str, evaluation: float, checkpoint: float) -> None:
        """Writes how many seconds training stood still after a step."""
        if not processes.is_first():
            return
        pause = {"step": step, "split": split, "evaluation": evaluation, "checkpoint": checkpoint}
        self._timings.write(json.dumps(pause) + "\n")
        self._timings.flush()

    def sync(self) -> None:
        """Returns once the records are on disk: after a crash no checkpoint may be ahead of them."""
        if not processes.is_first():
            return
        for file in (self._metrics, self._timings):
            os.fsync(file.fileno())

    def examples_per_second(self) -> float:
        """The median over all intervals of this run, those before an interruption included."""
        records = read_jsonl(self.path / "timings.jsonl")
        return statistics.median(record["examples"] / record["seconds"] for record in records if "examples" in record)

    def finish(self, result: dict[str, Any]) -> None:
        if processes.is_first():
            write_json(self.path / "result.json", result)

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _summary_writer(folder: Path, purge_step: int) -> Any:
    """tensorboardX imports PyTorch wherever it is installed: seconds and megabytes that a run has no use for."""
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]  # as if it weren't installed
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hide:
            del sys.modules["torch"]
    return SummaryWriter(str(folder), purge_step=purge_step)


def differences(old: Any, new: Any, path: str) -> list[str]:
    """The leaves where two configs differ, as `config.steps: 10 there, 20 here`.

    A field that the old one lacks was added since: where it is off (0, "", False), nothing has changed.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in sorted({*old, *new}):
            if key not in _MAY_CHANGE.get(path, ()) and (key in old or new[key]):
                lines += differences(old.get(key, "nothing"), new.get(key, "nothing"), f"{path}.{key}")
        return lines
    return [] if old == new else [f"{path}: {old} there, {new} here"]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The records of a file; a last line that was cut off is dropped. [] if there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    records = []
    for number, line in enumerate(lines, 1):
        if line.endswith("\n"):
            try:
                records.append(json.loads(line))
                int(records[-1]["step"])
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{path}, line {number} is no record: {one_line(error)}") from error
    return records


def read_result(path: Path) -> dict[str, Any]:
    """A result.json; UserError if it is none."""
    result = read_json(path)
    if not isinstance(result, dict) or "test_accuracy" not in result:
        raise UserError(f"{path} is no result of a run")
    return result


def read_json(path: Path) -> Any:
    """The content of a JSON file; UserError if it can't be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}") from error


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file that is there as a whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


def device_name() -> str:
    """The kind of device as its maker names it; for a CPU, its model and the number of cores this process may use."""
    kind = jax.devices()[0].device_kind
    if kind != "cpu":
        return kind
    model = "CPU"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {len(usable_cores())} cores"


def memory_here() -> float:
    """Bytes that a step may take: what the accelerators' allocators have, or half of the machine's memory."""
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
    return sum(filter(None, limits)) or 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
