"""The model that a run has trained, to look into and to use."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from gconv.data import pipeline, tasks
from gconv.data.dataset import Split
from gconv.errors import UserError
from gconv.models.classifier import Classifier
from gconv.training.checkpoint import read_newest
from gconv.training.metrics import read_json
from gconv.training.step import build_model


class Trained(NamedTuple):
    """A trained model, with what it was trained on and what it reads.

    model(inputs, lengths) gives class scores; see `gconv.models.classifier.Classifier`.
    tokenizer turns what a person has into the bytes that the model reads: a text into its bytes, a ListOps expression
    into its token ids, the path of a picture into its grey pixels. UserError for what doesn't fit the model.
    """

    model: Classifier
    config: ConfigDict
    tokenizer: Callable[[Any], bytes]
    classes: list[str]  # their names

    def predict(self, sequences: Sequence[bytes | tuple[bytes, bytes]]) -> np.ndarray:
        """Probabilities (examples, classes) of what the tokenizer made; of pairs, for a task of pairs.

        ValueError for what the model doesn't read: nothing, more than its length, a picture of another size, ids
        beyond its vocabulary.
        """
        documents, ids = 2 if self.model.pairs else 1, self.model.vocabulary
        least = 1 if ids else self.config.data.length
        shape = (len(sequences), documents, self.config.data.length)
        inputs, lengths = np.zeros(shape, np.uint8), np.zeros(shape[:2], np.int32)
        for i, example in enumerate(sequences):
            parts = (example,) if isinstance(example, bytes) else example
            if len(parts) != documents:
                raise ValueError(f"example {i} has {len(parts)} sequences; the model reads {documents}")
            for j, tokens in enumerate(parts):
                if not least <= len(tokens) <= self.config.data.length:
                    raise ValueError(f"example {i} has length {len(tokens)}; the model reads {least} to {shape[2]}")
                if ids and max(tokens) >= ids:
                    raise ValueError(f"example {i} has the token {max(tokens)}; the model knows {ids}, from 0 on")
                lengths[i, j] = len(tokens)
                inputs[i, j, : len(tokens)] = np.frombuffer(tokens, np.uint8)
        if documents == 1:
            inputs, lengths = inputs[:, 0], lengths[:, 0]
        split = Split(inputs, lengths, np.zeros(len(sequences), np.int32))
        graphdef, params = nnx.split(self.model)
        found = [
            np.asarray(_probabilities(graphdef, params, batch.inputs, batch.lengths))
            for batch in pipeline.evaluation_batches(split, max(1, min(len(sequences), self.config.batch_size)))
        ]
        return np.concatenate([np.zeros((0, len(self.classes)), np.float32), *found])[: len(sequences)]


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(graphdef: nnx.GraphDef, params: Any, inputs: Any, lengths: Any) -> jax.Array:
    return jax.nn.softmax(nnx.merge(graphdef, params)(inputs, lengths))


def load(run: str | Path, length: int | None = None) -> Trained:
    """The model of a run directory with the parameters that were best on validation, its config and its tokenizer.

    With `length` it reads sequences of another length than it was trained on: a convolution's kernel is evaluated
    there, each lag meaning what it did unless the config stretches it (`gconv.models.kernels` says which can be).
    UserError where the model has parameters that are tied to its length.

    The run may still be going on: the best so far are then those of its newest checkpoint. UserError if there is none.
    """
    if length is not None and length < 1:
        raise UserError(f"{run}: length must be at least 1; got {length}")
    content = read_json(Path(run) / "config.json")
    if not isinstance(content, dict) or not {"data", "model"} <= content.keys():
        raise UserError(f"{run} holds no run: its config.json isn't one of gconv's")
    config = ConfigDict(content)
    if length is not None:
        for options in (config.model.mixer_options, config.model.interleave.mixer_options):
            if "kernel_length" in options and not options.taps:  # taps of their own number know no length
                options.kernel_length = options.kernel_length or config.data.length
        config.data.length = length
    name = config.data.name
    if name not in tasks.TASKS:
        raise UserError(f"{run}: {name} is a probe; its models are not for use")
    try:
        spec = tasks.spec(name, config.data.length, config.data.options)
        graphdef, params = nnx.split(nnx.eval_shape(lambda: build_model(config.model, spec, jax.random.key(0))))
    except UserError as error:
        if length is None:
            raise
        raise UserError(f"{run}: its model can't read sequences of {length}: {error}") from error
    except (AttributeError, KeyError) as error:
        raise UserError(f"{run}: config.json lacks {error}: another version of gconv wrote it") from error
    found, notes = read_newest(Path(run) / "checkpoints", {"best": params})
    if notes["best_correct"] < 0:
        raise UserError(f"{run}: its newest checkpoint is from before the first validation")
    model = nnx.merge(graphdef, jax.tree.map(jnp.asarray, found["best"]))
    if length is not None:
        shape = (1, length) if spec.documents == 1 else (1, spec.documents, length)
        try:
            jax.eval_shape(model, np.zeros(shape, spec.dtype), np.ones(shape[:-1], np.int32))
        except ValueError as error:
            raise UserError(f"{run}: its model can't read sequences of {length}: {error}") from error
    return Trained(
        model,
        config,
        tasks.tokenizer(name, config.data.length),
        tasks.class_names(name, config.data.variant, config.data_dir),
    )
