"""Checkpoints by Orbax: everything a run needs to go on as if it had never stopped.

A checkpoint holds the arrays of a run and what the host remembers beside them. The data position is the step: batches
are a function of (seed, step). A digest of the content stands beside it, because Orbax itself restores flipped bits
without a word; it doesn't depend on how the arrays are sharded.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gconv.errors import Stopped, UserError, is_refused_write, one_line
from gconv.progress import say
from gconv.training import processes, sharding


class Checkpoints:
    """The last two checkpoints of a run, written in the background."""

    def __init__(self, folder: Path):
        self._folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} can't be used for checkpoints: {error}") from error

    def save(self, step: int, tree: Any, notes: dict[str, Any]) -> None:
        """Starts to write the arrays of a tree, and notes that JSON can hold."""
        by_path = _by_path(tree)
        notes = json.loads(json.dumps(notes))  # the run goes on to change its own while these are written
        record = {"sha256": _digest_of_both(by_path, notes), "notes": notes}
        content = ocp.args.Composite(tree=ocp.args.StandardSave(by_path), record=ocp.args.JsonSave(record))
        try:
            self._manager.save(step, args=content)
        except Exception as error:  # of a save before this one too
            self._raise_unwritable(error)
            raise

    def check(self) -> None:
        """Raises what a save in the background failed with: UserError for want of space or a permission."""
        try:
            self._manager.check_for_errors()
        except Exception as error:
            self._raise_unwritable(error)
            raise

    def wait(self) -> None:
        """Returns once everything saved is on disk."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._raise_unwritable(error)
            raise

    def restore(self, like: Any) -> tuple[int, Any, dict[str, Any]] | None:
        """The newest whole checkpoint as (step, tree, notes), with the structure and shardings of `like`.

        None if there are no checkpoints. Damaged ones are set aside in `damaged/`, with a warning that names them;
        UserError if there are no others, since a run never silently starts anew, or if it isn't one of such a tree.
        """
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like)
        by_path = _by_path(abstract)
        # One process looks at all of it first, so that all restore the same step, and one that can be restored.
        step = processes.from_first(self._newest_whole(by_path) if processes.is_first() else 0)
        self._manager.reload()
        if step == 0:
            return None
        wanted = ocp.args.Composite(tree=ocp.args.StandardRestore(by_path), record=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=wanted)
        tree = jax.tree.unflatten(jax.tree.structure(like), [restored.tree[path] for path in by_path])
        return step, tree, restored.record["notes"]

    def _newest_whole(self, like: dict[str, jax.ShapeDtypeStruct]) -> int:
        """The step of the newest checkpoint that is what was written, 0 if there are none."""
        damaged: list[Path] = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            path = self._folder / str(step)
            whole = _read_whole(path)
            if whole is None:
                damaged.append(path)
                continue
            tree, _ = whole
            forms = [{name: f"{a.dtype}{list(a.shape)}" for name, a in arrays.items()} for arrays in (tree, like)]
            if forms[0] != forms[1]:
                name = min(name for name, _ in forms[0].items() ^ forms[1].items())
                there, here = (form.get(name, "nothing") for form in forms)
                raise UserError(f"checkpoint {path} is of another model: {name}: {there} there, {here} here")
            for other in damaged:  # only now: a folder without any would look like that of a new run
                self._set_aside(other)
            return step
        if damaged:
            raise UserError(f"{self._folder}: every checkpoint is damaged; remove the run's folder to start it anew")
        return 0

    def _set_aside(self, path: Path) -> None:
        damaged = self._folder.parent / "damaged"
        damaged.mkdir(exist_ok=True)
        number = sum(1 for _ in damaged.iterdir())
        path.rename(damaged / f"{number}-step-{path.name}")

    def _raise_unwritable(self, error: Exception) -> None:
        if is_refused_write(error):
            said = f"{self._folder} can't be written, and what it held before is kept: {str(error)[:300]}"
            raise UserError(said) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if jax.process_count() > 1 and kind is not None and not issubclass(kind, (UserError, Stopped)):
            return  # a save that waits for a process that died would never end
        try:
            self._manager.close()
        except Exception:
            if kind is None:
                raise


def read_newest(folder: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """The part `like` of a run's newest whole checkpoint, as numpy arrays, and its notes; nothing there is changed.

    A damaged checkpoint is named, and the one before it is read. UserError if there is none that holds such a part.
    """
    folder, by_path = folder.absolute(), _by_path(like)
    if not folder.is_dir():
        raise UserError(f"{folder} isn't there: this run has saved nothing yet")
    for step in sorted((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), reverse=True):
        path = folder / str(step)
        whole = _read_whole(path)
        if whole is None:
            continue
        tree, notes = whole
        for name, leaf in by_path.items():
            if name not in tree or tree[name].shape != leaf.shape:
                raise UserError(f"{path} is of another model: it has no {name} {leaf.shape}")
        return jax.tree.unflatten(jax.tree.structure(like), [tree[name] for name in by_path]), notes
    raise UserError(f"{folder} holds no whole checkpoint")


def digest(tree: Any) -> str:
    """SHA-256 of the bytes of every array of a tree, in order; the same however they are sharded."""
    sha256 = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        sha256.update(sharding.to_host(leaf).tobytes())
    return sha256.hexdigest()


def _digest_of_both(by_path: dict[str, Any], notes: dict[str, Any]) -> str:
    return digest((by_path, np.frombuffer(json.dumps(notes).encode(), np.uint8)))


def _by_path(tree: Any) -> dict[str, Any]:
    # A flat dictionary is the one structure that every version of every library writes and reads alike.
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _read_whole(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays of a checkpoint, in this process's memory, and its notes; None, with a warning, if it is damaged."""
    try:
        return _read(path)
    except Exception as error:  # whatever a reader of damaged files raises
        of_the_file = FileNotFoundError | NotADirectoryError | IsADirectoryError
        if isinstance(error, MemoryError | OSError) and not isinstance(error, of_the_file):
            raise  # of the machine or the disk: the checkpoint may be whole
        say(f"WARNING: checkpoint {path} is damaged: {one_line(error)[:200]}")
        return None


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    me = jax.process_index()  # each process that reads does so alone
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"read{me}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    # Not by an `ocp.Checkpointer`, which warns of each checkpoint that one of its two parts has no metadata of its own.
    stored = handler.metadata(path / "tree").tree
    like = {name: np.empty(array.shape, array.dtype) for name, array in stored.items()}
    tree = handler.restore(path / "tree", args=ocp.args.StandardRestore(like))
    record = json.loads((path / "record/metadata").read_text())
    if _digest_of_both(tree, record["notes"]) != record["sha256"]:
        raise ValueError("its content differs from its digest")
    return tree, record["notes"]
