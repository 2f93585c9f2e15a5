"""Runs what is missing of a table: python -m experiments.run NAME [--workdir=runs] [--preset=small]

Each run is a process of its own, as many at a time as there are cores (--jobs). Interrupted or killed, the same command
goes on where it was, and waits for runs that outlived it; a run that failed is named, and tried again by the next call.
Where a table says what is to be measured of the trained models, that follows.

--preset=     the full setting; by default `small`, which two cores carry
--columns=…   only these columns
--output=DIR  folder for what is measured of the trained models, otherwise that of the runs
--dry_run     lists what is missing, with the hours it should take
--commands    prints the commands of the missing runs, one a line, for a launcher of your own
"""

import functools
import itertools
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments import grid
from gconv import cli
from gconv.cores import usable_cores
from gconv.errors import UserError
from gconv.progress import say, track
from gconv.training.metrics import in_use, read_json, write_json


def missing(table: grid.Table, preset: str, root: Path) -> list[grid.Run]:
    """The runs that can be made now: a sweep's first seed everywhere, and the other seeds once it has decided.

    Those that start from another run wait for it.
    """
    found = []
    for _, _, points in grid.runs(table, preset):
        first = [grid.record(point[0], root) for point in points]
        found += [point[0] for point, r in zip(points, first, strict=True) if r["state"] == "not run"]
        best = grid.best_point(first)
        if best is not None:
            found += [run for run in points[best][1:] if grid.record(run, root)["state"] == "not run"]
    starts = [(run, _start_of(run, table, root)) for run in found]
    return [run for run, start in starts if start is None or (start / "result.json").exists()]


def _start_of(run: grid.Run, table: grid.Table, root: Path) -> Path | None:
    """The folder of the run from whose best parameters this one starts, if from any."""
    if run.column not in table.starts_from:
        return None
    return run._replace(column=table.starts_from[run.column]).folder(root)


def arguments(run: grid.Run, table: grid.Table, root: Path, data_dir: str) -> list[str]:
    """All that `python -m gconv.main` is given for a run."""
    start = _start_of(run, table, root)
    start_from = [] if start is None else [f"--config.init_from={start}"]
    return [*run.command(root), *start_from, f"--config.data_dir={data_dir}"]


def still_to_come(table: grid.Table, preset: str, root: Path) -> list[grid.Run]:
    """The runs that are missing, those included that wait for another or for a sweep, then at its first point."""
    found = []
    for _, _, points in grid.runs(table, preset):
        first = [grid.record(point[0], root) for point in points]
        found += [point[0] for point, r in zip(points, first, strict=True) if r["state"] == "not run"]
        rest = points[grid.best_point(first) or 0][1:]
        found += [run for run in rest if grid.record(run, root)["state"] == "not run"]
    return found


def run_all(table: grid.Table, preset: str, root: Path, jobs: int, data_dir: str) -> int:
    """Runs until nothing is missing; returns how many failed."""
    for folder in (run.folder(root) for _, _, points in grid.runs(table, preset) for run in itertools.chain(*points)):
        if not in_use(folder):
            (folder / "failed").unlink(missing_ok=True)
    cores = usable_cores()
    shares = [cores[i::jobs] for i in range(jobs)]
    active: dict[int, tuple[grid.Run, subprocess.Popen, float]] = {}  # by share
    taken: list[float] = []
    failures = 0
    try:
        while True:
            idle = [share for share in range(jobs) if share not in active]
            mine = [run for run, _, _ in active.values()]
            waiting = [run for run in missing(table, preset, root) if run not in mine] if idle else []
            free = [run for run in waiting if not in_use(run.folder(root))]  # not of another runner, alive or killed
            for share, run in zip(idle, free, strict=False):
                active[share] = (run, _start(run, table, root, shares[share], data_dir), time.monotonic())
            if not active and not waiting:
                return failures
            time.sleep(0.5)
            for share, (run, process, began) in list(active.items()):
                if process.poll() is None:
                    continue
                del active[share]
                taken.append(time.monotonic() - began)
                failures += _finished(run, process, root)
                left = len(still_to_come(table, preset, root))
                say(f"{left} runs left, about {_duration(left * statistics.mean(taken) / jobs)}")
    finally:
        for _, process, _ in active.values():
            process.send_signal(signal.SIGTERM)
        for _, process, _ in active.values():
            process.wait()


def _start(run: grid.Run, table: grid.Table, root: Path, cores: list[int], data_dir: str) -> subprocess.Popen:
    folder = run.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / ".compiled"))  # seeds share their programs
    mine = usable_cores()
    _stay_on(cores or mine)  # children inherit it
    try:
        command = [sys.executable, "-m", "gconv.main", *arguments(_settled(run, root), table, root, data_dir)]
        with (folder / "log.txt").open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
    finally:
        _stay_on(mine)


def _stay_on(cores: list[int]) -> None:
    if hasattr(os, "sched_setaffinity"):  # macOS has no such thing
        os.sched_setaffinity(0, cores)


def _width(run: grid.Run, root: Path) -> Path | None:
    """Where the width of a run's cell, of all points of a sweep alike, is kept if it is found by timing."""
    return run._replace(swept={}).folder(root).parent / "width.json" if run.config.endswith(",match=time") else None


def _settled(run: grid.Run, root: Path) -> grid.Run:
    """A run matched in time with the width that was measured for its cell, the same for all seeds and on a resume."""
    path = _width(run, root)
    if path is None:
        return run
    if not path.exists():
        command = [sys.executable, "-m", "experiments.width", json.dumps(run._asdict())]
        timing = subprocess.run(command, capture_output=True, text=True)
        if timing.returncode:
            reason = (timing.stderr.strip().splitlines() or [f"{grid.CRASHED} {timing.returncode}"])[-1]
            raise UserError(f"{run.column} | {run.row}: its width wasn't found: {reason.removeprefix('error: ')}")
        write_json(path, int(timing.stdout))
    overrides = {**run.overrides, "model.features": read_json(path)}
    return run._replace(config=run.config.removesuffix(",match=time"), overrides=overrides)


def _finished(run: grid.Run, process: subprocess.Popen, root: Path) -> int:
    """Says how a run ended, keeps the reason of a failure, and returns 1 for one."""
    record, name = grid.record(run, root), f"{run.column} | {run.row} | {_point(run)}"
    if record["state"] == "finished":
        result = record["result"]
        accuracies = f"test {100 * result['test_accuracy']:.1f}%, validation {100 * result['val_accuracy']:.1f}%"
        say(f"{name}: {accuracies}, {result['parameters']:,} parameters")
        return 0
    if in_use(run.folder(root)):  # a run that another runner started while this one was starting
        say(f"{name}: is being made by another runner")
        return 0
    failed = run.folder(root) / "failed"
    if not failed.exists():
        lines = (run.folder(root) / "log.txt").read_text().strip().splitlines() or ["no output"]
        failed.write_text(f"{grid.CRASHED} {process.returncode}: {lines[-1]}\n")
    say(f"{name}: FAILED: {failed.read_text().strip()}")
    return 1


def _point(run: grid.Run) -> str:
    fields = {**run.swept, "seed": run.seed}
    return ", ".join(f"{field.rpartition('.')[2]} {value}" for field, value in fields.items())


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


def projected_seconds(
    runs: list[grid.Run], own: list[dict[str, Any]], others: list[dict[str, Any]]
) -> list[float | None]:
    """Training seconds of each run: as long a step as in a finished run of its cell, of its config and fields, or of
    its config, among the table's own records and those of others. None where there is none.
    """

    def fields(overrides: Mapping[str, Any]) -> str:
        return json.dumps({field: value for field, value in overrides.items() if field != "steps"}, sort_keys=True)

    known: dict[Any, tuple[float, int]] = {}  # seconds and steps
    for records in (others, own):
        for r in records:
            if r["state"] == "finished":
                took = r["result"]["train_seconds"], r["result"]["steps"]
                known |= {r["config"]: took, (r["config"], fields(r["overrides"])): took}
                if records is own:
                    known[r["row"], r["column"]] = took
    found = [
        known.get((run.row, run.column)) or known.get((run.config, fields(run.overrides))) or known.get(run.config)
        for run in runs
    ]
    return [
        None if took is None else took[0] * grid.config_of(grid.unmatched(run)).steps / took[1]
        for run, took in zip(runs, found, strict=True)
    ]


def print_commands(table: grid.Table, preset: str, root: Path, data_dir: str) -> None:
    """A line for each run that can be made now; those of which a width must still be timed are only counted."""
    failed = sum(r["state"] == "failed" for r in grid.collect(table, preset, root))
    waiting = missing(table, preset, root)
    untimed = [run for run in waiting if (path := _width(run, root)) is not None and not path.exists()]
    for run in waiting:
        if run not in untimed:
            print(shlex.join(["python", "-m", "gconv.main", *arguments(_settled(run, root), table, root, data_dir)]))
    if untimed:
        say(f"not listed: {len(untimed)} runs whose width is found by timing; experiments.run times and makes them")
    if failed:
        say(f"not listed: {failed} that failed; experiments.run tries them again")


@functools.cache
def _by_cost_model(config: str, overrides: str) -> float | None:
    """Seconds that a run should take on one H200, by its config and, in JSON, the row's and the column's fields.

    None for a mixer whose traffic the model doesn't know, and where a width is yet to be timed. What a sweep changes, a
    norm or a rate, costs nothing.
    """
    from experiments import lra  # with the model, which few calls need

    if config.endswith(",match=time"):
        return None
    try:
        made = grid.config_of(grid.Run("", "", 0, {}, config, json.loads(overrides)))
        return 3600 * lra.hours(lra.training(made), lra.DEVICES["one H200"])
    except (ValueError, KeyError, UserError):  # or for a task whose size it doesn't know, or where no width matches
        return None


def print_missing(table: grid.Table, name: str, preset: str, root: Path) -> None:
    """A line for each run that is missing, with its hours, and how many and how long all are."""
    waiting, left = missing(table, preset, root), still_to_come(table, preset, root)
    here = grid.collect(table, preset, root)
    others = [record for other in grid.names() for record in grid.read_records(other, preset)]
    seconds = projected_seconds(left, grid.read_records(name, preset) + here, others)
    if not preset:
        print("hours that weren't measured are projected for one H200, by the cost model")
        both = track(zip(left, seconds, strict=True), len(left), "projecting")  # widths to match take seconds each
        seconds = [s or _by_cost_model(run.config, json.dumps(run.overrides)) for run, s in both]
    for run, s in zip(left, seconds, strict=True):
        which = _point(run) if run in waiting else f"seed {run.seed}, after others"
        print(f"{run.column} | {run.row} | {which}: {'unknown' if s is None else f'{s / 3600:.3f} h'}")
    timed = [s for s in seconds if s is not None]
    unknown = len(left) - len(timed)
    guessed = f", {unknown} of unknown time taken to be as long as the others" if unknown else ""
    total = (
        f"about {len(left) * statistics.mean(timed) / 3600:.1f} h of training in all{guessed}"
        if timed
        else "nothing like them was timed"
    )
    print(f"{len(left)} runs missing, {len(left) - len(waiting)} of them after others: {total}")
    if failed := sum(r["state"] == "failed" for r in here):
        print(f"{failed} failed, which the next call tries again")


def define_flags() -> None:
    flags.DEFINE_string("workdir", "runs", "folder of all tables' runs")
    flags.DEFINE_string("preset", "small", "of the configs; empty for the full setting")
    flags.DEFINE_string("output", None, "folder for what is measured of the trained models; none for the runs' own")
    flags.DEFINE_list("columns", None, "only these of the table's columns")
    flags.DEFINE_integer("jobs", len(usable_cores()), "runs at a time, 1 if all want one accelerator", lower_bound=1)
    flags.DEFINE_string("data_dir", "data", "folder of the prepared data sets")
    flags.DEFINE_bool("dry_run", False, "list the missing runs and their hours, and run nothing")
    flags.DEFINE_bool("commands", False, "print the missing runs' commands, and run nothing")


def main(argv: list[str]) -> None:
    if len(argv) != 2 or not flags.FLAGS.workdir:
        raise UserError("expected python -m experiments.run NAME [--workdir=DIR]")
    if flags.FLAGS.dry_run and flags.FLAGS.commands:
        raise UserError("--dry_run lists the missing runs and --commands prints their commands; give one of them")
    table = grid.of_columns(argv[1], flags.FLAGS.columns)
    grid.check(table, flags.FLAGS.preset)
    root = Path(flags.FLAGS.workdir) / argv[1] / (flags.FLAGS.preset or "full")
    if flags.FLAGS.commands:
        return print_commands(table, flags.FLAGS.preset, root, flags.FLAGS.data_dir)
    if flags.FLAGS.dry_run:
        return print_missing(table, argv[1], flags.FLAGS.preset, root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir: {root} can't be written: {error.strerror}") from error
    measured = (cli.output_folder(flags.FLAGS.output) if table.measure else None) or root
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs are stopped too
    try:
        failures = run_all(table, flags.FLAGS.preset, root, flags.FLAGS.jobs, flags.FLAGS.data_dir)
    except PermissionError as error:
        raise UserError(f"--workdir: {error.filename or root} can't be written: {error.strerror}") from error
    preset = "" if flags.FLAGS.preset == "small" else f" --preset={flags.FLAGS.preset}"
    then = f"python -m experiments.table {argv[1]} --workdir={flags.FLAGS.workdir}{preset}"
    waiting = still_to_come(table, flags.FLAGS.preset, root)
    waited = f", {len(waiting)} wait for runs that failed or aren't there" if waiting else ""
    print(f"{argv[1]}: {'the other' if waiting else 'all'} runs made, {failures} failed{waited}; {then}")
    if failures or waiting:
        sys.exit(1)
    if table.measure is not None:
        table.measure(grid.finished(table, flags.FLAGS.preset, root), measured)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
