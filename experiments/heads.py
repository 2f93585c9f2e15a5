"""Which heads of trained attention a convolution can stand in for: python -m experiments.run heads

A convolution's map over positions is Toeplitz: y[t] = Σ_s k[t − s] v[s], with the same k for every sequence. Of each
head of a trained model the k is taken that is nearest to its attention maps over the validation examples, in least
squares, and put in their place: one head at a time, all others kept, and all heads at once, each before and after some
more training. Beside it the same with k = 0, which takes the head away: a head that nobody misses is no convolution.
"""

import functools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

import gconv
from experiments import meter
from experiments.grid import Part, Table
from experiments.table import shown_mean
from gconv.data import pipeline, tasks
from gconv.data.dataset import Dataset, Split
from gconv.models.classifier import Classifier
from gconv.models.kernels import KernelParam
from gconv.models.mixers import Attention
from gconv.progress import say
from gconv.training import sharding
from gconv.training.metrics import write_json
from gconv.training.optim import make_optimizer
from gconv.training.step import TrainState, make_train_step

STEPS, WARMUP, RATE = 500, 50, 1e-3  # of the training that follows a replacement
ALL = {  # what all heads are replaced by at once, and whether the model is trained on
    "attention, as trained": ("attention", False),
    "fitted kernels": ("fitted", False),
    "nothing": ("nothing", False),
    "attention, trained on": ("attention", True),
    "fitted kernels, trained on": ("fitted", True),
    "kernels from 0, trained on": ("nothing", True),
}


LOSSES = ("replaced", "removed", "replaced, trained on", "removed, trained on")  # of one head


class ToeplitzHeads(nnx.Module):
    """Attention some of whose heads have a Toeplitz matrix for their attention maps: see `__call__`.

    Args:
      attention: the mixer whose projections these are, and whose maps the other heads keep.
      kernels: (heads, 2 · length − 1), k[t − s] from lag −(length − 1) on.
      replaced: for each head whether its kernel stands for its maps.
    """

    layout = "blc"

    def __init__(self, attention: Attention, kernels: np.ndarray, replaced: Sequence[bool]):
        self.attention, self.replaced = attention, tuple(replaced)
        self.kernels = KernelParam(jnp.asarray(kernels, jnp.float32))

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, key: jax.Array | None = None) -> jax.Array:
        """x (batch, length, features), mask (batch, length) bool → like x; padding adds nothing to any token."""
        del key  # nothing here is random
        mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
        maps, values = attention_maps(self.attention, x, mask)
        convolutions = toeplitz(self.kernels[...], x.shape[1]) * mask[:, None, None, :]
        maps = jnp.where(np.array(self.replaced)[:, None, None], convolutions, maps)
        mixed = jnp.einsum("bhts,bshc->bthc", maps.astype(values.dtype), values)
        return self.attention.out(mixed.reshape(x.shape))


def attention_maps(attention: Attention, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps (batch, heads, queries, keys) float32, each row a distribution over the real tokens, and values.

    x (batch, length, features), mask (batch, length) bool; values (batch, length, heads, features / heads).
    """
    q, k, v = attention.project(x, mask)
    scores = jnp.einsum("bthc,bshc->bhts", q, k).astype(jnp.float32) / np.sqrt(q.shape[-1])
    return jax.nn.softmax(jnp.where(mask[:, None, None, :], scores, -jnp.inf), axis=-1), v


def toeplitz(kernels: Any, length: int) -> Any:
    """kernels (heads, 2n − 1), n ≥ length → (heads, length, length) with k[t − s] at (t, s)."""
    return kernels[:, lags(length) + kernels.shape[1] // 2]


def lags(length: int) -> np.ndarray:
    """t − s, (length, length)."""
    return np.arange(length)[:, None] - np.arange(length)


class Sums(NamedTuple):
    """Sums over the real tokens of examples, enough for the fit."""

    maps: Any  # (heads, queries, keys)
    squares: Any  # (heads,)
    number: Any  # (queries, keys), how many examples have both


def fit(sums: Sums) -> np.ndarray:
    """The kernels nearest to the maps in least squares, (heads, 2 · length − 1).

    The best k[lag] is the mean over all pairs of real tokens at that lag.
    """
    length = sums.maps.shape[-1]
    lag = (lags(length) + length - 1).ravel()
    totals = np.stack([np.bincount(lag, of_head.ravel()) for of_head in sums.maps])
    return totals / np.maximum(np.bincount(lag, sums.number.ravel()), 1)


def explained(sums: Sums, fixed: np.ndarray) -> np.ndarray:
    """R² of fixed maps (heads, queries, keys), which are the same for all examples: (heads,).

    The share of the maps' variance over all pairs of real tokens: 0 for one weight for all pairs, 1 for what the maps
    are in every example.
    """
    residual = sums.squares + np.sum(fixed * (fixed * sums.number - 2 * sums.maps), axis=(1, 2))
    variance = sums.squares - np.sum(sums.maps, axis=(1, 2)) ** 2 / np.sum(sums.number)
    return 1 - np.divide(residual, variance, out=np.zeros_like(residual), where=variance > 0)


def sums_of(model: Classifier, split: Split, batch_size: int = 256) -> list[Sums]:
    """Of each layer of an attention model, over all examples of the split."""
    graphdef, params = nnx.split(model)
    found: list[Sums] = []
    for batch in pipeline.evaluation_batches(split, batch_size):
        layers = jax.tree.map(np.float64, _sums(graphdef, params, batch))
        found = [Sums(*map(np.add, *pair)) for pair in zip(found, layers, strict=True)] if found else layers
    return found


@functools.partial(jax.jit, static_argnums=0)
def _sums(graphdef: nnx.GraphDef, params: Any, batch: pipeline.Batch) -> list[Sums]:
    model = nnx.merge(graphdef, params)
    mask = jnp.arange(batch.inputs.shape[1]) < batch.lengths[:, None]
    pairs = (mask[:, :, None] & mask[:, None, :]) * batch.weights[:, None, None]
    x, found = model.embed(jnp.asarray(batch.inputs, jnp.int32)), []
    for block in model.blocks:
        maps, _ = attention_maps(block.mixer, block.mixer_norm(x), mask)
        found.append(
            Sums(
                jnp.einsum("bhts,bts->hts", maps, pairs),
                jnp.einsum("bhts,bhts,bts->h", maps, maps, pairs),
                pairs.sum(0),
            )
        )
        x = block(x, mask)
    return found


def replace(model: Classifier, kernels: Sequence[np.ndarray], replaced: Sequence[Sequence[bool]]) -> Classifier:
    """A copy of an attention model in which kernels[layer] (heads, taps) stand for the maps of the replaced heads."""
    graphdef, params = nnx.split(model)
    copy = nnx.merge(graphdef, jax.tree.map(jnp.copy, params))
    for block, of_layer, heads in zip(copy.blocks, kernels, replaced, strict=True):
        block.mixer = ToeplitzHeads(block.mixer, of_layer, heads)
    return copy


def train_on(model: Classifier, config: ml_collections.ConfigDict, data: Dataset) -> Classifier:
    """A copy of the model, trained for STEPS more steps, kernels and all else, by the run's own recipe at RATE."""
    optim = config.optim.copy_and_resolve_references()
    optim.lr, optim.kernel_lr, optim.warmup_steps = RATE, RATE, WARMUP
    mesh, optimizer = sharding.make_mesh(config.mesh), make_optimizer(optim, STEPS)
    graphdef, params = nnx.split(model)
    params = jax.tree.map(jnp.copy, params)  # the step donates its state
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    state = jax.device_put(state, sharding.state_shardings(mesh, state, False))
    step = make_train_step(graphdef, optimizer, optim, state, mesh)
    batches = pipeline.TrainBatches(data.splits["train"], config.batch_size, config.seed + 1)  # another order
    key = jax.random.key(config.seed + 1)
    for i in range(STEPS):
        state, _ = step(state, sharding.put_batch(mesh, batches[i]), jax.random.fold_in(key, i))
    return nnx.merge(graphdef, state.params)


def correct(model: Classifier, split: Split) -> np.ndarray:
    """Which examples the model gets right, (examples,) bool."""
    return meter.scores_of(model)(split.inputs, split.lengths).argmax(-1) == split.labels


def loss(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """What share of examples is lost from one model to the other, and half of the 95% interval, examples paired."""
    difference = before.astype(float) - after
    return float(difference.mean()), float(1.96 * difference.std(ddof=1) / np.sqrt(len(difference)))


def read(run: Path) -> dict[str, Any]:
    """All that is measured of a run: its heads one by one, and all at once."""
    trained = gconv.load(run)
    model, config = trained.model, trained.config
    data = tasks.load(**config.data, data_dir=config.data_dir)
    test, shape = data.splits["test"], (len(model.blocks), model.blocks[0].mixer.heads)
    sums = sums_of(model, data.splits["validation"])
    fitted = [fit(of_layer) for of_layer in sums]
    tied = [explained(s, toeplitz(k, test.inputs.shape[1])) for s, k in zip(sums, fitted, strict=True)]
    untied = [explained(s, s.maps / np.maximum(s.number, 1)) for s in sums]
    nothing = [np.zeros_like(kernels) for kernels in fitted]
    before, after = correct(model, test), correct(train_on(model, config, data), test)
    heads = []
    for layer, head in np.ndindex(shape):
        one = np.zeros(shape, bool)
        one[layer, head] = True
        losses = {}
        for what, kernels in (("replaced", fitted), ("removed", nothing)):
            changed = replace(model, kernels, one.tolist())
            losses[what] = loss(before, correct(changed, test))
            losses[f"{what}, trained on"] = loss(after, correct(train_on(changed, config, data), test))
        heads.append(
            {"layer": layer + 1, "head": head + 1, "r2": float(tied[layer][head]), "untied": float(untied[layer][head])}
            | {"kernel": np.round(fitted[layer][head], 6).tolist()}
            | losses
        )
        points = ", ".join(f"{100 * mean:.1f}" for mean, _ in losses.values())
        say(f"{run}: layer {layer + 1}, head {head + 1}: {points}")
    everywhere = np.ones(shape, bool).tolist()
    models = {"attention": model} | {
        by: replace(model, kernels, everywhere) for by, kernels in (("fitted", fitted), ("nothing", nothing))
    }
    together = {}
    for name, (by, more) in ALL.items():
        chosen = train_on(models[by], config, data) if more else models[by]
        together[name] = float(correct(chosen, test).mean())
        say(f"{run}: {name}: {100 * together[name]:.1f}%")
    return {"seed": config.seed, "examples": len(before), "heads": heads, "all": together}


def table(record: list[dict[str, Any]]) -> str:
    lines = ["| all heads replaced by | accuracy (%) |", "|---|---:|"]
    lines += [f"| {name} | {shown_mean([100 * model['all'][name] for model in record], 1)} |" for name in ALL]
    heads = ["seed", "layer", "head", "R²", "of an untied matrix", *(f"loss, {by} (points)" for by in LOSSES)]
    lines += ["", f"| {' | '.join(heads)} |", "|" + "---:|" * len(heads)]
    every = [(model["seed"], head) for model in record for head in model["heads"]]
    for seed, head in every:
        figures = [f"{head['r2']:.2f}", f"{head['untied']:.2f}"]
        figures += [f"{100 * mean:.1f} ± {100 * half:.1f}" for mean, half in (head[by] for by in LOSSES)]
        lines.append(f"| {seed} | {head['layer']} | {head['head']} | {' | '.join(figures)} |")
    means, cheap = {}, {}
    for by in LOSSES:
        means[by] = shown_mean([100 * statistics.mean(head[by][0] for head in m["heads"]) for m in record], 1)
        cheap[by] = sum(sum(head[by]) < 0.01 for _, head in every)
    lines += [
        "",
        f"In the mean over heads one costs, in points: {'; '.join(f'{by} {means[by]}' for by in LOSSES)}.",
        f"Heads of {len(every)} that cost less than one point at 95% confidence:"
        f" {'; '.join(f'{by} {cheap[by]}' for by in LOSSES)}.",
        NOTE.format(examples=record[0]["examples"]),
    ]
    return "\n".join(lines)


NOTE = f"""
Each head's loss ± half of its 95% interval is over {{examples:,}} test examples, the same before and after; all else is
mean ± half of the 95% interval over seeds. R² of the Toeplitz kernel, and of the best matrix that is the same for all
examples, over the maps of the validation examples that they were fitted to. Training on takes {STEPS} steps at a rate
of {RATE:g}, and its loss is against attention trained on as long.
"""


def draw(record: list[dict[str, Any]], path: Path) -> None:
    """Loss by R², each head; the kernels of the first seed's heads; and accuracies with all heads replaced."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for layer in sorted({head["layer"] for head in record[0]["heads"]}):
        heads = [head for model in record for head in model["heads"] if head["layer"] == layer]
        r2 = [head["r2"] for head in heads]
        for by, face in (("replaced", f"C{layer}"), ("replaced, trained on", "none")):
            means, halves = np.transpose([head[by] for head in heads]) * 100
            left.errorbar(
                r2, means, halves, fmt="o", color=f"C{layer}", mfc=face, elinewidth=1, label=f"layer {layer}, {by}"
            )
    left.set(xlabel="R² of the Toeplitz kernel", ylabel="accuracy lost (points)", title="Each head alone")
    left.legend(fontsize=8)
    for head in record[0]["heads"]:
        reach = len(head["kernel"]) // 2
        label = f"layer {head['layer']}, head {head['head']}"
        style = "-" if head["layer"] == 1 else "--"
        middle.plot(range(-reach, reach + 1), head["kernel"], style, lw=1.2, label=label)
    middle.set(xlabel="lag t − s", ylabel="weight", title="The fitted kernels, one seed")
    middle.legend(fontsize=7)
    for y, name in enumerate(ALL):
        values = [100 * model["all"][name] for model in record]
        right.plot(values, [y] * len(values), "o", color="C0", alpha=0.7)
    right.set_yticks(range(len(ALL)), list(ALL))
    right.invert_yaxis()
    right.set(xlabel="test accuracy (%)", title="All heads at once, each seed")
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def measure(runs: list[Path], folder: Path) -> None:
    record = [read(run) for run in runs]
    write_json(folder / "heads.json", record)
    (folder / "heads.md").write_text(table(record))
    draw(record, folder / "heads.png")


TABLE = Table(
    title="The attention models whose heads are replaced",
    rows={"attention": Part("attention", {"steps": 3000, "eval_every": 500, "data.limit": 0})},
    columns={"ListOps": Part("listops,small")},
    measure=measure,
)
