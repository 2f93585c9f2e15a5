"""The mesh, and the one table that says which mesh axes split each logical axis.

    data      rows of the batch, and with `fsdp` the stored parameters and moments too
    sequence  positions of every activation
    model     positions too, and the stored parameters and moments

What acts on each position by itself (norms, dense layers, activations, pooling) finds its positions on its device, and
the parameters are gathered for it: long sequences are far larger than the parameters of the models here. A global
convolution exchanges positions for channels and back, attention for heads, so neither's step gathers activations.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gconv.cores import usable_cores
from gconv.data.dataset import Split
from gconv.data.pipeline import Batch, TrainBatches
from gconv.errors import UserError

MESH_AXES = ("data", "sequence", "model")

# Logical axis → mesh axes. Parameters name theirs in their `axes` metadata; those without are whole on every device.
MESH_AXES_OF = {
    # of activations
    "batch": "data",
    "length": ("model", "sequence"),  # in this order a kernel split over model is cut, not moved, for sequence
    "features": None,
    # of parameters
    "channels": "model",
    "heads": "model",
    "hidden": "model",
    "taps": None,
    "embed": None,
    "intensity": None,
}


def split_over_cores(config: ml_collections.ConfigDict) -> None:
    """Makes the cores of a CPU devices, over which the batch is split; to be called before JAX is used.

    As many of the cores as divide the batch into parts of two examples or more; whoever sets a mesh or
    JAX_NUM_CPU_DEVICES has decided already. One device would run on all cores too, but an FFT by a single thread
    whenever XLA comes to it on one of its pool's threads. On 2 cores two devices take 0.8 of a step's time at L 512,
    d 64, 4 layers, batch 32, and 0.93 at L 1024, d 128, 6 layers, batch 16 (medians); four devices 0.93 at L 512.
    """
    undecided = (config.mesh.data, config.mesh.sequence, config.mesh.model) == (-1, 1, 1)
    if not undecided or "JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    rows, rest = divmod(config.batch_size, max(config.optim.accumulate, 1))
    cores = len(usable_cores())
    fitting = [n for n in range(2, cores + 1) if rows % n == 0 and rows >= 2 * n]
    if fitting and not rest:
        with contextlib.suppress(RuntimeError):  # a config with match=time has used JAX to measure itself
            jax.config.update("jax_num_cpu_devices", fitting[-1])


def make_mesh(config: ml_collections.ConfigDict) -> Mesh:
    """A mesh of all devices: config.data × config.sequence × config.model, where data = -1 takes what is left."""
    devices = jax.device_count()
    others = config.sequence * config.model
    data = devices // max(others, 1) if config.data == -1 else config.data
    if min(config.sequence, config.model) < 1 or data * others != devices:
        sizes = f"data={config.data}, sequence={config.sequence}, model={config.model}"
        raise UserError(f"config.mesh: {sizes} doesn't fit {devices} devices")
    return jax.make_mesh((data, config.sequence, config.model), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(MESH_AXES_OF["batch"]))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split_activations(mesh: Mesh, x: jax.Array, layout: str) -> jax.Array:
    """x of a layout, (batch, length, features) or (batch, features, length), split as the table says."""
    axes = {"b": "batch", "l": "length", "c": "features"}
    spec = PartitionSpec(*(MESH_AXES_OF[axes[letter]] for letter in layout))
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def state_shardings(mesh: Mesh, state: Any, fsdp: bool) -> Any:
    """How every leaf of a tree of parameters is stored, or of anything made like one (an optimiser's moments).

    With `fsdp` each is split over `data` too, along the first axis that divides by it. UserError if a parameter's axis
    doesn't divide by its mesh axis.
    """

    def sharding(leaf: Any) -> Any:
        if not isinstance(leaf, nnx.Variable):
            return replicated(mesh)
        shape, axes = leaf.get_value().shape, leaf.get_metadata().get("axes", ())
        split: list[tuple[str, ...]] = [()] * len(shape)
        for dimension, (size, logical) in enumerate(zip(shape, axes, strict=False)):
            axis = MESH_AXES_OF[logical]
            if not isinstance(axis, str):
                continue
            if size % mesh.shape[axis]:
                raise UserError(f"config.mesh.{axis}={mesh.shape[axis]} doesn't divide a parameter's {size} {logical}")
            split[dimension] = (axis,)
        if fsdp:
            for dimension, size in enumerate(shape):
                if size % np.prod([mesh.shape[axis] for axis in (*split[dimension], "data")]) == 0:
                    split[dimension] += ("data",)
                    break
        spec = PartitionSpec(*(axes or None for axes in split))
        return jax.tree.map(lambda _: NamedSharding(mesh, spec), leaf)

    return jax.tree.map(sharding, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def gather_parameters(mesh: Mesh, params: Any) -> Any:
    """Stored parameters as the layers use them: whole on every device, but kernels split over channels."""

    def gathered(leaf: Any) -> Any:
        channels = leaf.get_metadata().get("axes", ("",))[0] == "channels"
        spec = PartitionSpec(MESH_AXES_OF["channels"]) if channels else PartitionSpec()
        return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, NamedSharding(mesh, spec)), leaf)

    return jax.tree.map(gathered, params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def rows_here(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The rows of a batch that devices of this process hold, ascending."""
    slices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[rows] for rows in slices if rows is not None]))


def put_batch(mesh: Mesh, batch: Any) -> Any:
    """Puts this process's rows of a batch on its devices, split over `data`."""
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(batch_sharding(mesh), rows), batch)


def keeps(split: Split, resident_gib: float) -> bool:
    """Whether the devices keep a split: accelerators do up to that size; a CPU's memory holds it already."""
    return jax.default_backend() != "cpu" and sum(array.nbytes for array in split) <= resident_gib * 2**30


def feed(mesh: Mesh, batches: TrainBatches, kept: bool) -> Callable[[int], Batch]:
    """The batch of a step, on the devices and split over `data`.

    Of a split that is `kept`, whole on every device, each takes its rows itself: a step needs nothing of the host but
    their numbers.
    """
    if not kept:
        return lambda step: put_batch(mesh, batches[step])
    whole = jax.tree.map(
        lambda array: jax.make_array_from_callback(array.shape, replicated(mesh), lambda part: array[part]),
        batches.split,
    )

    @functools.partial(jax.jit, in_shardings=replicated(mesh), out_shardings=batch_sharding(mesh))
    def take(split: Split, examples: jax.Array) -> Batch:
        inputs, lengths, labels = (array[examples] for array in split)
        return Batch(inputs, lengths, labels, jnp.ones(len(examples), jnp.float32))

    return lambda step: take(whole, batches.examples(step).astype(np.int32))


def to_host(array: jax.Array | np.ndarray) -> np.ndarray:
    """The whole array on this host, wherever its shards live."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
