"""A token mixer from outside the package: one module, one line in a config, no change to the trainer."""

import jax.numpy as jnp
from flax import nnx

from configs import listops
from gconv.models.kernels import KernelParam
from gconv.ops import cost
from gconv.training.loop import train_and_evaluate
from gconv.training.metrics import read_jsonl


class MeanMixer(nnx.Module):
    """Adds a learnt multiple of the mean of the real tokens."""

    layout = "blc"

    def __init__(self, features, length, *, start, dropout, dtype, rngs):
        self.scale = KernelParam(jnp.full(features, start))
        self.features = features

    def __call__(self, x, mask=None, *, key=None):
        total = jnp.sum(jnp.where(mask[..., None], x, 0), axis=1, keepdims=True)
        return x + self.scale[...] * total / jnp.sum(mask, axis=1)[:, None, None]

    def flops(self, length):
        return cost.Flops(length * self.features, length * self.features)


def test_it_trains(tmp_path):
    config = listops.get_config("gconv,smoke")
    config.mixer = "mean"
    config.model.mixer = f"{__name__}.MeanMixer"
    with config.unlocked():
        config.model.mixer_options = {"start": 0.5}
    config.data_dir = str(tmp_path)
    config.steps = 60
    config.eval_every = config.checkpoint_every = 30
    result = train_and_evaluate(config, str(tmp_path / "run"))
    assert result["mixer"] == "mean" and result["flops_per_token"] > 0
    losses = [record["loss"] for record in read_jsonl(tmp_path / "run/metrics.jsonl") if record["split"] == "train"]
    assert losses[-1] < losses[0]
