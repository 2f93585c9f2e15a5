"""The whole run, in a straight line: data, model, state, steps, result."""

import functools
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx

from gconv.data import pipeline, tasks
from gconv.errors import Diverged, Stopped, UserError, is_refused_write
from gconv.progress import say
from gconv.training import processes, sharding
from gconv.training.checkpoint import Checkpoints, digest, read_newest
from gconv.training.evaluate import evaluate, make_eval_step
from gconv.training.metrics import RunDirectory, device_name
from gconv.training.optim import make_optimizer, schedule
from gconv.training.step import build_model, initialize, make_train_step, spec_of


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: str, accept_changes: bool = False) -> dict[str, Any]:
    """Runs config in workdir, from its newest checkpoint if it has one, and returns the content of result.json.

    A finished run is left as it is. UserError for a config that can't be run, for one that differs from the run's that
    is in workdir, unless that isn't finished and `accept_changes`, and for a loss that isn't finite; Stopped after
    SIGTERM or Ctrl-C.
    """
    _check(config)
    try:
        with RunDirectory(workdir, config.to_dict(), config.steps, accept_changes) as run:
            if run.result is not None:
                say(f"{workdir} holds a finished run; nothing to do")
                return run.result
            try:
                with Checkpoints(run.path / "checkpoints") as checkpoints:
                    return _train(config, run, checkpoints)
            except Diverged as error:
                run.fail(str(error))
                raise
    except OSError as error:
        if not is_refused_write(error):
            raise
        where = error.filename or f"workdir {workdir}"  # a disk that is full has no name to tell
        raise UserError(f"{where} can't be written: {error.strerror}") from error


def _train(config: ml_collections.ConfigDict, run: RunDirectory, checkpoints: Checkpoints) -> dict[str, Any]:
    mesh = sharding.make_mesh(config.mesh)
    _check_mesh(config, mesh)
    data = processes.first_before_others(lambda: tasks.load(**config.data, data_dir=config.data_dir))
    rows = sharding.rows_here(mesh, config.batch_size)
    batches = pipeline.TrainBatches(data.splits["train"], config.batch_size, config.seed, rows)
    batch_of = sharding.feed(mesh, batches, sharding.keeps(batches.split, config.resident_gib))

    init_key, dropout_key = jax.random.split(jax.random.key(config.seed))  # the same on every process
    optimizer = make_optimizer(config.optim, config.steps)
    graphdef, state = initialize(config.model, data.spec, optimizer, mesh, init_key, config.mesh.fsdp)
    copy, norm = jax.jit(lambda params: jax.tree.map(jnp.copy, params)), jax.jit(optax.tree.norm)
    best = copy(state.params)  # the parameters that were best on validation
    best_correct = -1
    since_log: list[dict[str, float]] = []  # the metrics of the steps that no record holds yet
    skipped: list[int] = []  # steps whose loss or gradient wasn't finite
    flops = nnx.merge(graphdef, state.params).flops(config.data.length)  # now: a mixer of one's own may have none
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.filter_state(state.params, nnx.Param)))

    start, restored = 0, checkpoints.restore({"state": state, "best": best})
    if restored is not None:
        start, tree, notes = restored
        state, best = tree["state"], tree["best"]
        best_correct, since_log, skipped = notes["best_correct"], notes["since_log"], notes["skipped"]
        meant = notes.get("steps", config.steps)  # only the last step of all is sure to have been validated
        if start > config.steps or start == config.steps != meant:
            raise UserError(f"config.steps ({config.steps}) doesn't lie beyond the newest checkpoint, of step {start}")
        say(f"going on from step {start:,}")
    elif config.init_from:
        found, kept = read_newest(Path(config.init_from) / "checkpoints", {"best": state.params})
        if kept["best_correct"] < 0:
            raise UserError(f"config.init_from: {config.init_from} hasn't been validated yet, so none are its best")
        params = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), found["best"], state.params)
        state, best = state._replace(params=params), copy(params)
        say(f"starting from the best parameters of {config.init_from}")
    run.start(start, data.record)
    say(f"{config.data.name} with {config.mixer}: {parameters:,} parameters on {device_name()}; compiling the step")

    train_step = make_train_step(graphdef, optimizer, config.optim, state, mesh)
    compiled = train_step.lower(state, batch_of(0), dropout_key).compile()
    eval_step = make_eval_step(graphdef, mesh)
    at_once = config.batch_size // config.optim.accumulate  # examples in memory, in an evaluation too
    learning_rate = schedule(config.optim, config.steps)

    # The first step of a process has costs of its own.
    profiled = range(start + 2, min(start + 2 + config.profile, config.steps + 1))
    # What a step measured, and whether a signal to stop had come by then, is read one step later: the device never
    # waits for this host. Where a record, an evaluation or a checkpoint is due it is read at once, and nothing is left
    # to read.
    launched: dict[str, jax.Array] | None = None
    asked: Any = False
    clock, paused, timed = time.perf_counter(), 0.0, 0
    with processes.StopSignal(mesh) as stop_signal:
        for step in range(start + 1, config.steps + 1):
            batch = batch_of(step - 1)
            previous, asked_before = launched, asked
            if profiled and step == profiled[0]:
                jax.profiler.start_trace(run.path / "profile")
            state, launched = compiled(state, batch, jax.random.fold_in(dropout_key, step))
            asked = stop_signal.received_anywhere()
            if previous is not None:
                _collect(previous, step - 1, since_log, skipped, config.optim.skip_nonfinite)
            if profiled and step == profiled[-1]:
                jax.block_until_ready(state)
                jax.profiler.stop_trace()
                say(f"steps {profiled[0]:,} to {step:,} are traced in {run.path / 'profile'}")
            run.step_done()
            checkpoints.check()
            timed += 1

            last, stop = step == config.steps, bool(asked_before)
            log, check = last or step % config.log_every == 0, last or step % config.eval_every == 0
            save = last or stop or step % config.checkpoint_every == 0
            if not (log or check or save):
                continue
            _collect(launched, step, since_log, skipped, config.optim.skip_nonfinite)
            launched = None
            if log:
                seconds = time.perf_counter() - clock - paused
                run.record_time(step, timed * config.batch_size, seconds)
                if since_log:
                    means = {name: sum(m[name] for m in since_log) / len(since_log) for name in since_log[0]}
                    run.record(step, "train", {**means, "lr": float(learning_rate(step - 1 - len(skipped)))})
                since_log, clock, paused, timed = [], time.perf_counter(), 0.0, 0
            began = time.perf_counter()
            if check:
                scores = evaluate(eval_step, state.params, data.splits["validation"], at_once, mesh)
                _require_finite(step, "validation loss", scores["loss"])
                run.record(step, "validation", scores)
                if scores["correct"] > best_correct:
                    best, best_correct = copy(state.params), int(scores["correct"])
            evaluated = time.perf_counter()
            if save:
                _require_finite(step, "norm of the parameters", float(norm(state.params)))
                notes = {
                    "steps": config.steps,
                    "best_correct": best_correct,
                    "since_log": since_log,
                    "skipped": skipped,
                }
                run.sync()
                checkpoints.save(step, {"state": state, "best": best}, notes)
            if stop and not last:
                checkpoints.wait()
                raise Stopped(f"all is saved at step {step:,}; the same command goes on")
            saved = time.perf_counter()
            paused += saved - began
            if check or save:
                run.record_pause(step, "validation", evaluated - began, saved - evaluated)
    began = time.perf_counter()
    checkpoints.wait()
    waited = time.perf_counter()
    test = evaluate(eval_step, best, data.splits["test"], at_once, mesh)
    run.record_pause(config.steps, "test", time.perf_counter() - waited, waited - began)
    run.record(config.steps, "test", test)
    tokens = data.spec.documents * config.data.length
    result = {
        "task": config.data.name,
        "mixer": config.mixer,
        "seed": config.seed,
        "steps": config.steps,
        "test_accuracy": test["accuracy"],
        "val_accuracy": best_correct / np.count_nonzero(data.splits["validation"].labels >= 0),
        "chance": data.chance,
        "parameters": parameters,
        "flops_per_token": flops.fft / tokens,
        "flops_per_token_direct": flops.direct / tokens,
        "examples_per_second": run.examples_per_second(),
        "peak_memory_bytes": _peak_memory(compiled),
        "params_sha256": digest(state.params),
        "data": data.record,
        "device": device_name(),
    }
    run.finish(result)
    _say_result(result)
    return result


def _peak_memory(compiled: Any) -> int:
    """Bytes of the compiled step on one device, by XLA's own account: state, batch and temporaries.

    Not XLA's `peak_memory_in_bytes`, which leaves temporaries out on a CPU.
    """
    memory = compiled.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return int(kept + memory.temp_size_in_bytes)


def _collect(
    metrics: dict[str, jax.Array], step: int, since_log: list[dict[str, float]], skipped: list[int], limit: int
) -> None:
    """Adds the metrics of a step to since_log, or, if they aren't finite, the step to skipped.

    UserError once more than `limit` are skipped.
    """
    values = {name: float(metrics[name]) for name in ("loss", "accuracy", "grad_norm")}
    wrong = [name for name in ("loss", "grad_norm") if not math.isfinite(values[name])]
    if not wrong:
        since_log.append(values)
    elif len(skipped) >= limit:  # which may have been lowered since some were
        _require_finite(step, wrong[0], values[wrong[0]])
    else:
        skipped.append(step)
        say(f"WARNING: step {step}: {wrong[0]} is {values[wrong[0]]}; skipped, as {len(skipped)} of at most {limit}")


def _require_finite(step: int, name: str, value: float) -> None:
    if not math.isfinite(value):
        raise Diverged(f"step {step}: {name} is {value}; the last checkpoint is kept")


def _say_result(result: dict[str, Any]) -> None:
    examples, chance, accuracy = result["data"]["examples"]["test"], result["chance"], result["test_accuracy"]
    say(f"test accuracy {accuracy:.4f} on {examples:,} examples; guessing scores {chance:.4f}")
    noise = 1.96 * (chance * (1 - chance) / examples) ** 0.5
    if accuracy < chance - noise:
        say(f"WARNING: the test accuracy is BELOW GUESSING ({chance:.4f} ± {noise:.4f}): nothing was learnt")
    elif accuracy < chance + noise:
        say(f"WARNING: the test accuracy is WITHIN NOISE OF CHANCE ({chance:.4f} ± {noise:.4f}): nothing was learnt")


_AT_LEAST_1 = (
    *("steps", "batch_size", "eval_every", "checkpoint_every", "log_every", "data.length"),
    *("model.layers", "model.features", "optim.accumulate"),
)
_AT_LEAST_0 = (
    *("seed", "profile", "resident_gib", "data.limit", "model.mlp_ratio", "model.interleave.every"),
    *("optim.kernel_lr", "optim.warmup_steps", "optim.weight_decay", "optim.kernel_weight_decay", "optim.clip"),
    "optim.skip_nonfinite",
)


def _check(config: ml_collections.ConfigDict) -> None:
    """UserError for numbers out of range; what isn't a number is checked where it is used."""

    def value(path: str) -> Any:
        return functools.reduce(lambda part, name: part[name], path.split("."), config)

    for least, paths in ((1, _AT_LEAST_1), (0, _AT_LEAST_0)):
        for path in paths:
            if not value(path) >= least:
                raise UserError(f"config.{path} must be at least {least}; got {value(path)}")
    if config.seed >= 2**32:
        raise UserError(f"config.seed must be below 2**32; got {config.seed}")
    if not config.optim.lr > 0:
        raise UserError(f"config.optim.lr must be positive; got {config.optim.lr}")
    for path in ("model.dropout", "model.denoise", "optim.b1", "optim.b2"):
        if not 0 <= value(path) < 1:
            raise UserError(f"config.{path} must be in [0, 1); got {value(path)}")
    for path in (*_AT_LEAST_1, *_AT_LEAST_0, "optim.lr"):
        if math.isinf(value(path)):
            raise UserError(f"config.{path} must be finite; got {value(path)}")
    known = [*tasks.TASKS, *tasks.PROBES]
    if config.data.name not in known:
        raise UserError(f"config.data.name must be one of {', '.join(known)}; got {config.data.name!r}")
    if not config.data_dir:
        raise UserError("config.data_dir must name a folder; it is empty")
    # What doesn't make a model or an optimiser is refused before hours of preparing data.
    nnx.eval_shape(lambda: build_model(config.model, spec_of(config), jax.random.key(0)))
    make_optimizer(config.optim, config.steps)


def _check_mesh(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> None:
    parts = mesh.shape["data"] * config.optim.accumulate
    if config.batch_size % parts:
        raise UserError(
            f"config.batch_size ({config.batch_size}) must divide by the data axis of the mesh"
            f" ({mesh.shape['data']}) times config.optim.accumulate ({config.optim.accumulate})"
        )
    parts = mesh.shape["sequence"] * mesh.shape["model"]  # of positions, and in a convolution of channels
    for name, size in (("data.length", config.data.length), ("model.features", config.model.features)):
        if size % parts:
            raise UserError(f"config.{name} ({size}) must divide by the mesh's axes sequence and model ({parts})")
