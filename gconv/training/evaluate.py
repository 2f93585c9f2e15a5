"""Exact evaluation: every example of a split counts once."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from gconv.data import pipeline
from gconv.data.tasks import Split
from gconv.training import sharding
from gconv.training.step import Sums, loss_and_sums


def make_eval_step(graphdef: nnx.GraphDef) -> Callable[[Any, pipeline.Batch], Sums]:
    return jax.jit(lambda params, batch: loss_and_sums(nnx.merge(graphdef, params), batch, None)[1])


def evaluate(eval_step: Callable, params: Any, split: Split, batch_size: int, mesh: Mesh) -> dict[str, float]:
    """Mean loss (nats), accuracy, and the numbers of correct and of all examples, of `params` over the whole split."""
    batches = pipeline.evaluation_batches(split, batch_size, jax.process_index(), jax.process_count())
    totals = [eval_step(params, sharding.put_batch(mesh, batch)) for batch in batches]
    loss, correct, examples = (sum(float(total[i]) for total in totals) for i in range(3))
    return {"loss": loss / examples, "accuracy": correct / examples, "correct": int(correct), "examples": int(examples)}
