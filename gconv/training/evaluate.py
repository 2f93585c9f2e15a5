"""Exact evaluation: every example of a split counts once."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from gconv.data import pipeline
from gconv.data.dataset import Split
from gconv.training import sharding
from gconv.training.step import Sums, loss_and_sums


def make_eval_step(graphdef: nnx.GraphDef, mesh: Mesh) -> Callable[[Any, pipeline.Batch], Sums]:
    """(parameters, batch split over the mesh) → what `loss_and_sums` counts of the batch, on every device."""

    def eval_step(params: Any, batch: pipeline.Batch) -> Sums:
        model = nnx.merge(graphdef, sharding.gather_parameters(mesh, params))
        return loss_and_sums(model, batch, None)[1]

    return jax.jit(eval_step, out_shardings=sharding.replicated(mesh))


def evaluate(eval_step: Callable, params: Any, split: Split, batch_size: int, mesh: Mesh) -> dict[str, float]:
    """Of `params` over the whole split: mean loss (nats), accuracy, and the numbers of right and of all predictions."""
    batches = pipeline.evaluation_batches(split, batch_size, sharding.rows_here(mesh, batch_size))
    totals = [eval_step(params, sharding.put_batch(mesh, batch)) for batch in batches]  # the host runs ahead
    loss, correct, predictions = (
        sum(map(float, of_batches)) for of_batches in zip(*jax.device_get(totals), strict=True)
    )
    accuracy = correct / predictions
    return {"loss": loss / predictions, "accuracy": accuracy, "correct": int(correct), "predictions": int(predictions)}
