"""The mesh, and the one table that says which mesh axis each logical axis is split over."""

from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gconv.errors import UserError

MESH_AXES = ("data", "model")

# Logical axis → mesh axis. Parameters name theirs in their `axes` metadata; those without are replicated. Split over
# `data` alone, a step sums gradients and gathers nothing. Split over `model` too, it computes the same, but the
# compiler still gathers activations between a split layer and the next.
MESH_AXIS_OF = {
    "batch": "data",
    "channels": "model",
    "heads": "model",
    "hidden": "model",
    "taps": None,
    "embed": None,
}


def make_mesh(config: ml_collections.ConfigDict) -> Mesh:
    """A mesh of all devices: config.data × config.model, where data = -1 takes what is left."""
    devices = jax.device_count()
    model = config.model
    data = devices // max(model, 1) if config.data == -1 else config.data
    if model < 1 or data * model != devices:
        raise UserError(f"config.mesh: data={config.data}, model={model} doesn't fit {devices} devices")
    return jax.make_mesh((data, model), MESH_AXES, axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(MESH_AXIS_OF["batch"]))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, state: Any) -> Any:
    """The sharding of every leaf of a tree of parameters, or of anything made like one (an optimiser's moments).

    UserError if a parameter's axis doesn't divide by its mesh axis.
    """

    def sharding(leaf: Any) -> Any:
        if not isinstance(leaf, nnx.Variable):
            return replicated(mesh)
        axes = leaf.get_metadata().get("axes", ())
        spec = PartitionSpec(*(MESH_AXIS_OF[axis] for axis in axes))
        for size, logical, axis in zip(leaf.get_value().shape, axes, spec, strict=False):
            if axis is not None and size % mesh.shape[axis]:
                raise UserError(f"config.mesh.{axis}={mesh.shape[axis]} doesn't divide a parameter's {size} {logical}")
        return jax.tree.map(lambda _: NamedSharding(mesh, spec), leaf)

    return jax.tree.map(sharding, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def rows_here(mesh: Mesh, batch_size: int) -> np.ndarray:
    """The rows of a batch that devices of this process hold, ascending."""
    slices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[rows] for rows in slices if rows is not None]))


def put_batch(mesh: Mesh, batch: Any) -> Any:
    """Puts this process's rows of a batch on its devices, split over `data`."""
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(batch_sharding(mesh), rows), batch)


def to_host(array: jax.Array | np.ndarray) -> np.ndarray:
    """The whole array on this host, wherever its shards live."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
