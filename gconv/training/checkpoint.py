"""Checkpoints by Orbax: everything a run needs to go on as if it had never stopped.

A checkpoint holds the training state and the best parameters on validation so far. The data position is the step:
batches are a function of (seed, step). A digest of the content stands beside it, because Orbax itself restores flipped
bits without a word; it doesn't depend on how the arrays are sharded.
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from gconv.errors import UserError
from gconv.progress import say
from gconv.training import sharding


class Checkpoints:
    """The last two checkpoints of a run, written in the background."""

    def __init__(self, folder: Path):
        self._folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} can't be used for checkpoints: {error}") from error

    def save(self, step: int, tree: Any) -> None:
        by_path = _by_path(tree)
        content = ocp.args.Composite(
            tree=ocp.args.StandardSave(by_path), digest=ocp.args.JsonSave({"sha256": digest(by_path)})
        )
        self._manager.save(step, args=content)

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest whole checkpoint as (step, tree), with the structure and shardings of `like`.

        None if there are no checkpoints. Damaged ones are set aside in `damaged/`, with a warning that names them;
        UserError if there are no others: a run never silently starts anew.
        """
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like)
        by_path = _by_path(abstract)
        wanted = ocp.args.Composite(tree=ocp.args.StandardRestore(by_path), digest=ocp.args.JsonRestore())
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                restored = self._manager.restore(step, args=wanted)
                if digest(restored.tree) != restored.digest["sha256"]:
                    raise ValueError("its content differs from its digest")
            except Exception as error:  # whatever a reader of damaged files raises
                say(f"WARNING: checkpoint {self._folder / str(step)} is damaged: {' '.join(str(error).split())[:200]}")
                self._set_aside(step)
                continue
            return step, jax.tree.unflatten(jax.tree.structure(like), [restored.tree[path] for path in by_path])
        if steps:
            raise UserError(f"{self._folder}: every checkpoint is damaged; remove the run's folder to start it anew")
        return None

    def _set_aside(self, step: int) -> None:
        damaged = self._folder.parent / "damaged"
        damaged.mkdir(exist_ok=True)
        number = sum(1 for _ in damaged.iterdir())
        (self._folder / str(step)).rename(damaged / f"{number}-step-{step}")
        self._manager.reload()

    def wait(self) -> None:
        """Returns once everything saved is on disk."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()


def read_newest(folder: Path, like: Any) -> Any:
    """The part `like` of a run's newest whole checkpoint, on one device; nothing in the folder is changed.

    A damaged checkpoint is named, and the one before it is read. UserError if there is none that holds such a part.
    """
    folder, by_path = folder.absolute(), _by_path(like)
    one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # where the devices that made it aren't there
    wanted = ocp.args.Composite(tree=ocp.args.StandardRestore(fallback_sharding=one), digest=ocp.args.JsonRestore())
    if not folder.is_dir():
        raise UserError(f"{folder} isn't there: this run has saved nothing yet")
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(create=False)) as manager:
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                restored = manager.restore(step, args=wanted)
                if digest(restored.tree) != restored.digest["sha256"]:
                    raise ValueError("its content differs from its digest")
            except Exception as error:  # whatever a reader of damaged files raises
                say(f"WARNING: checkpoint {folder / str(step)} is damaged: {' '.join(str(error).split())[:200]}")
                continue
            for path, leaf in by_path.items():
                if path not in restored.tree or restored.tree[path].shape != leaf.shape:
                    raise UserError(f"{folder / str(step)} is of another model: it has no {path} {leaf.shape}")
            arrays = [jax.device_put(sharding.to_host(restored.tree[path]), one) for path in by_path]
            return jax.tree.unflatten(jax.tree.structure(like), arrays)
    raise UserError(f"{folder} holds no whole checkpoint")


def digest(tree: Any) -> str:
    """SHA-256 of the bytes of every array of a tree, in order; the same however they are sharded."""
    sha256 = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        sha256.update(sharding.to_host(leaf).tobytes())
    return sha256.hexdigest()


def _by_path(tree: Any) -> dict[str, Any]:
    # A flat dictionary is the one structure that every version of every library writes and reads alike.
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
