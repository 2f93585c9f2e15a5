"""The configs of the full setting beside the published recipes; batches of 50 are of 48, to split over 8 devices."""

import importlib

import jax
import numpy as np
import pytest
from flax import nnx

from gconv.training.match import parameters
from gconv.training.optim import schedule as optimizer_schedule
from gconv.training.step import build_model, spec_of

# Layers, width, norm and whether it comes first, dropout; rate, kernels' rate, weight decay; batch, steps, warm-up;
# squash, kernel dropout.
LONGCONV = {
    "listops": (8, 128, "batch", False, 0.0, 0.01, 5e-4, 0.05, 48, 80_000, 10_000, 0.002, 0.2),
    "text": (6, 256, "batch", True, 0.0, 0.01, 1e-3, 0.05, 16, 50_000, 5_000, 0.003, 0.2),
    "retrieval": (6, 256, "batch", True, 0.0, 0.01, 1e-4, 0.05, 64, 50_000, 2_500, 0.004, 0.1),
    "image": (6, 512, "layer", False, 0.1, 0.01, 1e-3, 0.05, 48, 200_000, 1_000, 0.003, 0.2),
    "pathfinder": (6, 256, "batch", True, 0.0, 0.004, 1e-3, 0.03, 64, 500_000, 2_500, 0.001, 0.3),
    "pathx": (6, 256, "batch", True, 0.0, 5e-4, 5e-4, 0.05, 16, 500_000, 10_000, 0.001, 0.3),
}
# The same up to the warm-up; then the width of a scale.
SGCONV = {
    "listops": (8, 128, "batch", False, 0.0, 0.01, 1e-3, 0.05, 48, 80_000, 1_000, 1),
    "text": (6, 256, "batch", True, 0.0, 0.01, 1e-3, 0.05, 16, 50_000, 1_000, 2),
    "retrieval": (6, 256, "batch", True, 0.0, 0.01, 1e-3, 0.05, 64, 50_000, 2_500, 1),
    "image": (6, 512, "layer", False, 0.2, 0.01, 1e-3, 0.05, 48, 200_000, 1_000, 32),
    "pathfinder": (6, 256, "batch", True, 0.2, 0.004, 1e-3, 0.03, 64, 500_000, 2_500, 32),
    "pathx": (6, 256, "batch", True, 0.0, 0.004, 1e-3, 0.03, 64, 125_000, 10_000, 64),
}
# Layers, width, dropout; rate, the state space's rate, weight decay; batch; states before half are dropped, blocks, how
# C starts, what is gated, what of B and Δ is learnt at the first rate, the shortest Δ; epochs of warm-up, epochs, and
# of how many examples. From its authors' bin/run_experiments.
S5 = {
    "listops": (
        *(8, 128, 0.0, 3e-3, 1e-3, 0.04, 48),
        *(16, 8, "lecun_normal", "half_glu2", ("b",), 1e-3),
        *(1, 40, 96_000),
    ),
    "text": (
        *(6, 256, 0.1, 4e-3, 1e-3, 0.07, 48),
        *(192, 12, "lecun_normal", "half_glu2", ("log_step",), 1e-3),
        *(0, 35, 22_500),
    ),
    "retrieval": (
        *(6, 128, 0.0, 2e-3, 1e-3, 0.05, 32),
        *(256, 16, "trunc_standard_normal", "half_glu1", ("log_step",), 1e-3),
        *(1, 20, 147_086),
    ),
    "image": (
        *(6, 512, 0.1, 4.5e-3, 1e-3, 0.07, 48),
        *(384, 3, "lecun_normal", "half_glu1", ("b",), 1e-3),
        *(1, 250, 45_000),
    ),
    "pathfinder": (
        *(6, 192, 0.05, 4.5e-3, 9e-4, 0.03, 64),
        *(256, 8, "trunc_standard_normal", "half_glu1", (), 1e-3),
        *(1, 200, 160_000),
    ),
    "pathx": (
        *(6, 128, 0.0, 1.8e-3, 6e-4, 0.06, 32),
        *(256, 16, "complex_normal", "half_glu1", (), 1e-4),
        *(1, 75, 160_000),
    ),
}

# Layers, width, heads, hidden units, dropout, positions; steps, batch, rate before its factors, schedule, warm-up,
# decay; length. From LRA's lra_benchmarks/*/configs.
LRA = {
    "listops": (6, 512, 8, 2048, 0.1, "sinusoidal", 5_000, 32, 0.05, "inverse_sqrt", 1_000, 0.1, 2000),
    "text": (4, 256, 4, 1024, 0.1, "sinusoidal", 20_000, 32, 0.05, "inverse_sqrt", 8_000, 0.1, 1000),
    "retrieval": (4, 128, 4, 512, 0.1, "sinusoidal", 5_000, 32, 0.05, "inverse_sqrt", 8_000, 0.1, 4000),
    "image": (1, 32, 1, 64, 0.3, "learnt", 200 * (45_000 // 256), 256, 5e-4, "cosine", 45_000 // 256, 0.0, 1024),
    "pathfinder": (
        *(1, 128, 4, 128, 0.2, "sinusoidal"),
        *(200 * (160_000 // 512), 512, 1e-3, "cosine", 160_000 // 512, 0.0, 1024),
    ),
    "pathx": (1, 32, 2, 32, 0.1, "learnt", 200 * 2_500, 64, 1e-3, "cosine", 2_500, 0.0, 128**2),
}
# Layers, width, hidden units, activation; rate, weight decay, batch, epochs, of how many examples; what is corrupted.
# From the configs/experiment/lra of github.com/pablomiralles22/long-transformers, its SiLU where a file names none.
MIRALLES = {
    "listops": (6, 256, 512, "silu", 1e-4, 0.05, 8 * 8, 120, 96_000, 0.0),
    "text": (8, 256, 512, "silu", 1e-3, 0.01, 16, 100, 25_000, 0.3),
    "retrieval": (6, 128, 256, "silu", 1e-3, 0.0, 32, 60, 147_086, 0.3),
    "image": (8, 192, 384, "relu", 1e-3, 0.0, 64, 200, 45_000, 0.0),
    "pathfinder": (6, 128, 256, "silu", 1e-3, 0.01, 128, 100, 160_000, 0.0),
}
# Layers, width and heads in the full setting: of Amos et al. 2023 (attention), and as reported for Tay et al. 2021.
ATTENTION = {
    "listops": ((6, 512, 8), (6, 512, 8)),
    "text": ((6, 512, 8), (4, 256, 4)),
    "retrieval": ((4, 128, 4), (4, 128, 4)),
    "image": ((3, 64, 8), (1, 128, 8)),
    "pathfinder": ((4, 128, 8), (4, 32, 4)),
    "pathx": ((4, 128, 8), (1, 32, 2)),
}


def made_of(task, names):
    return importlib.import_module(f"configs.{task}").get_config(names)


def convolutions(made):
    model, optim = made.model, made.optim
    return (
        *(model.layers, model.features, model.norm, model.norm_first, model.dropout),
        *(optim.lr, optim.kernel_lr, optim.weight_decay),
        *(made.batch_size, made.steps, optim.warmup_steps),
    )


@pytest.mark.parametrize("task", LONGCONV)
def test_gconv_has_longconvs_recipe(task):
    made = made_of(task, "gconv")
    options = made.model.mixer_options.kernel_options
    assert (*convolutions(made), options.squash, options.dropout) == LONGCONV[task]
    assert made.optim.kernel_weight_decay == made.optim.clip == 0
    attention = made_of(task, "attention")
    assert attention.batch_size == made.batch_size and attention.model.norm == "layer"


@pytest.mark.parametrize("task", SGCONV)
def test_sgconv_learns_its_kernels_at_the_published_relative_rate(task):
    made = made_of(task, "gconv,sgconv")
    *published, width = SGCONV[task]
    model = nnx.eval_shape(lambda: build_model(made.model, spec_of(made), jax.random.key(0)))
    assert model.blocks[0].mixer.conv.kernel.width == made.model.mixer_options.kernel_options.width == width
    kernel = type(model.blocks[0].mixer.conv.kernel)(
        made.model.features, made.data.length, "bidirectional", width=width, rngs=nnx.Rngs(0)
    )
    unit = 1 / np.std(kernel.weights[...])  # published weights have a deviation of 1
    assert made.optim.kernel_lr * unit == pytest.approx(1e-3, rel=0.1)
    assert made.optim.kernel_weight_decay * made.optim.kernel_lr == pytest.approx(made.optim.weight_decay * 1e-3)
    found = convolutions(made)
    assert (*found[:6], 1e-3, *found[7:]) == tuple(published)


@pytest.mark.parametrize("task", LRA)
def test_lra_is_the_transformer_of_its_released_files(task):
    made = made_of(task, "transformer,lra")
    model, optim = made.model, made.optim
    *published, lr, schedule, warm_up, decay, length = LRA[task]
    hidden = round(model.mlp_ratio * model.features)
    found = (model.layers, model.features, model.mixer_options.heads, hidden, model.dropout, model.positions)
    assert (*found, made.steps, made.batch_size) == tuple(published) and made.data.length == length
    assert (optim.schedule, optim.warmup_steps, optim.weight_decay) == (schedule, warm_up, decay)
    peak = lr if schedule == "cosine" else lr / warm_up**0.5
    assert (optim.lr, optim.b2, optim.clip) == (pytest.approx(peak), 0.98, float(task == "pathx"))
    assert model.norm_first and model.activation == "gelu"
    for step in (warm_up // 2, warm_up, 2 * warm_up):
        if schedule == "inverse_sqrt":  # theirs: constant * linear_warmup * rsqrt_decay
            expected = lr * min(1, step / warm_up) / np.sqrt(max(step, warm_up))
            assert optimizer_schedule(optim, made.steps)(step) == pytest.approx(expected)
    with pytest.raises(ValueError, match="lra is the recipe of Long Range Arena's transformer; got gconv"):
        made_of(task, "gconv,lra")


@pytest.mark.parametrize("task", ATTENTION)
def test_attention_has_its_published_sizes(task):
    for mixer, published in zip(("attention", "transformer"), ATTENTION[task], strict=True):
        made = made_of(task, mixer)
        assert (made.model.layers, made.model.features, made.model.mixer_options.heads) == published
        assert made.model.mlp_ratio == 4 and made.steps == made_of(task, "gconv").steps


@pytest.mark.parametrize("task", ATTENTION)
def test_the_docstring_of_a_task_says_how_large_its_models_are(task):
    said = " ".join(importlib.import_module(f"configs.{task}").__doc__.split())
    for names in ("gconv", "gconv,sgconv", "ssm", "attention", "attention,miralles", "transformer"):
        assert f" {names} {parameters(made_of(task, names)):,}" in said.partition("parameters:")[2], names


@pytest.mark.parametrize("task", S5)
def test_ssm_has_s5s_recipe(task):
    made = made_of(task, "ssm")
    model, optim = made.model, made.optim
    options = model.mixer_options
    *published, warm_up, epochs, examples = S5[task]
    found = (
        *(model.layers, model.features, model.dropout, optim.lr, optim.kernel_lr, optim.weight_decay, made.batch_size),
        *(2 * options.states, options.blocks, options.c_init, options.activation, tuple(options.at_model_rate)),
        options.shortest_step,
    )
    assert found == tuple(published)
    assert model.norm == "batch" and model.norm_first
    for steps, expected in ((optim.warmup_steps, warm_up), (made.steps, epochs)):
        assert steps * made.batch_size / examples == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("task", MIRALLES)
def test_miralles_is_the_transformer_of_its_released_files(task):
    made = made_of(task, "attention,miralles")
    model, optim = made.model, made.optim
    *published, epochs, examples, corrupted = MIRALLES[task]
    hidden = round(model.mlp_ratio * model.features)
    found = (model.layers, model.features, hidden, model.activation, optim.lr, optim.weight_decay, made.batch_size)
    assert (*found, model.denoise) == (*published, corrupted)
    assert made.steps == pytest.approx(epochs * examples / made.batch_size, rel=1e-3)
    assert model.mixer_options.heads == 4 and model.mixer_options.rotary and model.norm_first
    assert model.dropout == optim.clip == optim.warmup_steps == 0
    assert made.data.mirror == (task in ("image", "pathfinder"))
    with pytest.raises(ValueError, match="miralles is a recipe for attention; got gconv"):
        made_of(task, "gconv,miralles")


def test_path_x_has_pathfinders_transformer_at_its_own_steps():
    made, of_pathfinder = made_of("pathx", "attention,miralles"), made_of("pathfinder", "attention,miralles")
    assert made.model == of_pathfinder.model and made.steps == made_of("pathx", "attention").steps
