"""A mixer and a kernel from outside the package: one module, one line in a config, no change to the trainer."""

import jax.numpy as jnp
import pytest
from flax import nnx

from configs import listops
from gconv.models.kernels import DistanceKernel, KernelParam
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


class ExponentialKernel(DistanceKernel):
    """Each channel an exponential of the distance, with a rate and a weight for either side."""

    def __init__(self, features, length, boundary, *, rate, rngs):
        super().__init__(features, length, boundary)
        self.rates = KernelParam(jnp.full((features, self.sides), rate), axes=("channels",))
        self.weights = KernelParam(jnp.full((features, self.sides), 0.1), axes=("channels",))

    def at(self, reach, step):
        decay = jnp.exp(-self.rates[..., None] * step * jnp.arange(reach))
        return self.weights[..., None] * decay


def mean_mixer(config):
    config.model.mixer = f"{__name__}.MeanMixer"
    config.model.mixer_options = {"start": 0.5}


def exponential_kernel(config):
    config.model.mixer_options.kernel = f"{__name__}.ExponentialKernel"
    config.model.mixer_options.kernel_options = {"rate": 0.3}


@pytest.mark.parametrize("change", [mean_mixer, exponential_kernel])
def test_it_trains(tmp_path, change):
    config = listops.get_config("gconv,smoke")
    config.mixer = "mine"
    with config.unlocked():
        change(config)
    config.data_dir = str(tmp_path)
    config.steps = 60
    config.eval_every = config.checkpoint_every = 30
    result = train_and_evaluate(config, str(tmp_path / "run"))
    assert result["mixer"] == "mine" and result["flops_per_token"] > 0
    losses = [record["loss"] for record in read_jsonl(tmp_path / "run/metrics.jsonl") if record["split"] == "train"]
    assert losses[-1] < losses[0]
