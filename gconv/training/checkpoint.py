"""Checkpoints by Orbax: everything a run needs to go on as if it had never stopped.

A checkpoint holds the training state and the best parameters on validation so far. The data position is the step:
batches are a function of (seed, step).
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """The last two checkpoints of a run, written in the background."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, tree: Any) -> None:
        self._manager.save(step, args=ocp.args.StandardSave(_by_path(tree)))

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest checkpoint as (step, tree), with the structure and shardings of `like`; None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like)
        by_path = _by_path(abstract)
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(by_path))
        return step, jax.tree.unflatten(jax.tree.structure(like), [restored[path] for path in by_path])

    def wait(self) -> None:
        """Returns once everything saved is on disk."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()


def _by_path(tree: Any) -> dict[str, Any]:
    # A flat dictionary is the one structure that every version of every library writes and reads alike.
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
