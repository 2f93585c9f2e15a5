"""The gradient step, the optimiser's groups, and exact evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from configs import listops
from gconv.data.dataset import Spec, Split
from gconv.data.pipeline import Batch, evaluation_batches
from gconv.errors import UserError
from gconv.models.kernels import KernelParam
from gconv.ops import convolution
from gconv.training import sharding
from gconv.training.evaluate import evaluate, make_eval_step
from gconv.training.optim import make_optimizer, schedule
from gconv.training.step import build_model, initialize, loss_and_sums, make_train_step

SPEC = Spec(length=12, classes=10, vocabulary=16)


def config(mixer="gconv", norm="layer"):
    made = listops.get_config(f"{mixer},smoke")
    made.model.norm = norm
    made.model.dropout = 0.0
    if mixer == "gconv":
        made.model.mixer_options.kernel_options.dropout = 0.0
    return made


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(config().mesh)


def batch(examples=8, real=8):
    rng = np.random.default_rng(0)
    return Batch(
        rng.integers(1, 16, (examples, 12)).astype(np.uint8),
        rng.integers(1, 13, examples).astype(np.int32),
        rng.integers(0, 10, examples).astype(np.int32),
        (np.arange(examples) < real).astype(np.float32),
    )


def one_step(mesh, accumulate=1, rows=None, mixer="gconv", norm="layer"):
    made = config(mixer, norm)
    optimizer = make_optimizer(made.optim, made.steps)
    graphdef, state = initialize(made.model, SPEC, optimizer, mesh, jax.random.key(0))
    made.optim.accumulate = accumulate
    step = make_train_step(graphdef, optimizer, made.optim, state, mesh)
    state, _ = step(state, rows or batch(), jax.random.key(1))  # the learning rate of the very first step is 0
    return step(state, rows or batch(), jax.random.key(1))


def test_where_nothing_is_asked_nothing_is_counted_or_learnt():
    model = build_model(config().model, SPEC._replace(answers=2), jax.random.key(0))
    labels = jnp.full((3, 12), -1).at[[0, 0, 1, 2, 2], [1, 3, 11, 0, 1]].set(jnp.array([2, 0, 4, 1, 1]))
    rows = batch(3, real=2)._replace(labels=labels, lengths=np.full(3, 12, np.int32))  # the last row is padding
    asked = [(0, 1, 2), (0, 3, 0), (1, 11, 4)]

    def slow(model):
        scores = jax.nn.log_softmax(model(rows.inputs, rows.lengths))
        return -sum(scores[i, t, c] for i, t, c in asked)

    loss, sums = loss_and_sums(model, rows, None)
    expected, gradient = nnx.value_and_grad(slow)(model)
    np.testing.assert_allclose([loss, sums.loss], expected, rtol=1e-6)
    scores = model(rows.inputs, rows.lengths)
    assert scores.shape == (3, 12, 10) and sums.predictions == 3
    assert sums.correct == sum(int(scores[i, t].argmax()) == c for i, t, c in asked)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        *(nnx.to_pure_dict(found) for found in (nnx.grad(lambda m: loss_and_sums(m, rows, None)[0])(model), gradient)),
    )


def test_the_loss_is_the_cross_entropy_of_the_labels():
    model = build_model(config().model, SPEC, jax.random.key(0))
    rows = batch(real=5)
    loss, sums = loss_and_sums(model, rows, None)
    scores = np.asarray(model(rows.inputs, rows.lengths), np.float64)
    log_probabilities = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -log_probabilities[np.arange(5), rows.labels[:5]].sum()
    np.testing.assert_allclose([loss, sums.loss], expected, rtol=1e-5)
    assert sums.correct == (scores.argmax(1) == rows.labels)[:5].sum() and sums.predictions == 5


def test_a_model_that_denoises_does_so_in_training_alone():
    made = config("attention")
    made.model.denoise = 0.3
    model, rows = build_model(made.model, SPEC, jax.random.key(0)), batch(real=5)
    scores, reconstruction = model.denoise(rows.inputs, rows.lengths, key=jax.random.key(1))
    labelled = optax.softmax_cross_entropy_with_integer_labels(scores, rows.labels)
    loss, sums = loss_and_sums(model, rows, jax.random.key(1))
    assert loss == pytest.approx(float(jnp.sum((labelled + reconstruction)[:5])), rel=1e-6) and sums.predictions == 5
    assert sums.loss == pytest.approx(float(jnp.sum(labelled[:5])), rel=1e-6)
    grads = nnx.grad(lambda model: loss_and_sums(model, rows, jax.random.key(1))[0])(model)
    masked = grads["embed"]["embedding"][...][SPEC.vocabulary]
    assert (masked != 0).any() and (grads["denoiser"]["kernel"][...] != 0).any()
    evaluated, _ = loss_and_sums(model, rows, None)
    scores = model(rows.inputs, rows.lengths)
    labelled = optax.softmax_cross_entropy_with_integer_labels(scores, rows.labels)
    assert evaluated == pytest.approx(float(jnp.sum(labelled[:5])), rel=1e-6)


def test_rows_of_weight_zero_have_no_influence(mesh):
    rows = batch(real=5)
    other = rows._replace(
        inputs=np.where(rows.weights[:, None] > 0, rows.inputs, 1), labels=(rows.labels * rows.weights).astype(np.int32)
    )
    (a, metrics_a), (b, metrics_b) = one_step(mesh, rows=rows), one_step(mesh, rows=other)
    jax.tree.map(np.testing.assert_array_equal, (a.params, metrics_a), (b.params, metrics_b))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_gradient_is_that_of_the_mean_over_real_examples(mesh, accumulate):
    made, rows = config(), batch(real=5)
    optimizer = make_optimizer(made.optim, made.steps)
    graphdef, state = initialize(made.model, SPEC, optimizer, mesh, jax.random.key(0))

    def mean_loss(params):
        scores = nnx.merge(graphdef, params)(rows.inputs[:5], rows.lengths[:5])
        return optax.softmax_cross_entropy_with_integer_labels(scores, rows.labels[:5]).mean()

    expected = optax.tree.norm(jax.grad(mean_loss)(state.params))
    made.optim.accumulate = accumulate
    _, metrics = make_train_step(graphdef, optimizer, made.optim, state, mesh)(state, rows, jax.random.key(1))
    np.testing.assert_allclose(metrics["grad_norm"], expected, rtol=1e-5)


@pytest.mark.parametrize("mixer", ["gconv", "attention"])
@pytest.mark.parametrize("real", [8, 5])
def test_accumulation_equals_one_batch(mesh, mixer, real):
    whole, metrics = one_step(mesh, rows=batch(real=real), mixer=mixer)
    parts, metrics_of_parts = one_step(mesh, accumulate=4, rows=batch(real=real), mixer=mixer)
    for name in metrics:
        np.testing.assert_allclose(metrics[name], metrics_of_parts[name], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(parts.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_step_changes_every_parameter_and_counts(mesh, norm):
    made = config(norm=norm)
    _, before = initialize(made.model, SPEC, make_optimizer(made.optim, made.steps), mesh, jax.random.key(0))
    after, _ = one_step(mesh, norm=norm)
    assert after.step == 2
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(before.params), jax.tree.leaves(after.params), strict=True
    ):
        assert (np.asarray(old) != np.asarray(new)).any(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_running_averages_follow_the_batches_and_nothing_else(mesh, accumulate):
    """Those of the last norm: of what stands before it in each part of the batch."""
    made, rows = config(norm="batch"), batch()
    made.model.norm_first = True
    made.optim.weight_decay, made.optim.accumulate = 0.5, accumulate
    optimizer = make_optimizer(made.optim, made.steps)
    graphdef, state = initialize(made.model, SPEC, optimizer, mesh, jax.random.key(0))
    model, mask = nnx.merge(graphdef, jax.tree.map(jnp.copy, state.params)), np.arange(12) < rows.lengths[:, None]
    seen = []
    model.norm = lambda x, mask, training: seen.append(x) or x  # (batch, features, length)
    for part in range(accumulate):
        model(rows.inputs[part::accumulate], rows.lengths[part::accumulate], key=jax.random.key(1))
    means = [np.moveaxis(np.asarray(x), 1, 2)[mask[part::accumulate]].mean(0) for part, x in enumerate(seen)]
    after, _ = make_train_step(graphdef, optimizer, made.optim, state, mesh)(state, rows, jax.random.key(1))
    np.testing.assert_allclose(after.params["norm"]["mean"][...], 0.1 * np.mean(means, 0), atol=1e-6)


@pytest.mark.parametrize("kernel_decay", [0.0, 0.25])
def test_kernels_have_their_own_learning_rate_and_decay(kernel_decay):
    made = config().optim
    made.update(lr=1e-2, kernel_lr=1e-3, warmup_steps=0, weight_decay=0.5, kernel_weight_decay=kernel_decay, clip=0.0)
    model = build_model(config().model, SPEC, jax.random.key(0))
    params = nnx.state(model, nnx.Param)
    optimizer = make_optimizer(made, 100)

    def update(gradient):
        gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
        return optimizer.update(gradients, optimizer.init(params), params)[0]

    by_gradient, by_decay = update(1.0), update(0.0)
    found = set()
    for path, param in nnx.to_flat_state(params):
        value, moved, decayed = (
            tree
            for tree in (
                param[...],
                dict(nnx.to_flat_state(by_gradient))[path][...],
                dict(nnx.to_flat_state(by_decay))[path][...],
            )
        )
        kernel, matrix = isinstance(param, KernelParam), param[...].ndim > 1
        found.add((kernel, matrix))
        rate = 1e-3 * kernel_decay if kernel else 1e-2 * 0.5 * matrix
        np.testing.assert_allclose(decayed, -rate * value, atol=1e-8)
        np.testing.assert_allclose(moved - decayed, -1e-3 if kernel else -1e-2, rtol=1e-4)
    assert found == {(True, True), (False, True), (False, False)}


def test_the_schedule_warms_up_and_falls():
    made = config().optim
    made.update(lr=0.5, warmup_steps=10)
    rate = schedule(made, 100)
    np.testing.assert_allclose([rate(0), rate(5), rate(10), rate(55), rate(100)], [0, 0.25, 0.5, 0.25, 0], atol=1e-6)
    made.schedule = "inverse_sqrt"
    rate = schedule(made, 100)
    np.testing.assert_allclose([rate(0), rate(5), rate(10), rate(40)], [0, 0.25, 0.5, 0.25], atol=1e-6)
    made.schedule = "step"
    with pytest.raises(UserError, match=r"config.optim.schedule must be cosine or inverse_sqrt; got 'step'"):
        schedule(made, 100)


def test_evaluation_drops_no_example(mesh):
    made = config()
    model = build_model(made.model, SPEC, jax.random.key(0))
    graphdef, params = nnx.split(model)
    rows = batch(examples=23)
    split = Split(rows.inputs, rows.lengths, rows.labels)
    scores = evaluate(make_eval_step(graphdef, mesh), params, split, 10, mesh)
    logits = model(rows.inputs, rows.lengths)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows.labels)
    assert scores["predictions"] == 23
    assert scores["accuracy"] == pytest.approx(float((logits.argmax(-1) == rows.labels).mean()), abs=1e-6)
    assert scores["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert len(list(evaluation_batches(split, 10))) == 3


def test_bfloat16_trains_with_float32_parameters(mesh, monkeypatch):
    monkeypatch.setattr(convolution, "LONGEST_MATRIX", 0)  # by FFT, short as the sequences are
    made = config()
    made.model.dtype = "bfloat16"
    optimizer = make_optimizer(made.optim, made.steps)
    graphdef, state = initialize(made.model, SPEC, optimizer, mesh, jax.random.key(0))
    step = make_train_step(graphdef, optimizer, made.optim, state, mesh)
    hlo = step.lower(state, batch(), jax.random.key(1)).as_text()
    assert "bf16" in hlo and "complex<f32>" in hlo
    state, metrics = step(state, batch(), jax.random.key(1))
    assert np.isfinite(metrics["loss"]) and {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {
        jnp.dtype("float32")
    }


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("mixer", "gconv.models.mixers.Nothing", "config.model.mixer='gconv.models.mixers.Nothing' can't be imported"),
        ("mixer", "nothing", "config.model.mixer='nothing' can't be imported"),
        ("mixer_options", {"heads": 3}, "config.model: .*boundary|unexpected keyword"),
        ("positions", "learned", "config.model: positions must be none, sinusoidal or learnt; got 'learned'"),
    ],
)
def test_a_model_that_cannot_be_built_is_named(field, value, message):
    made = config()
    with made.unlocked():
        made.model[field] = value
    with pytest.raises(UserError, match=message):
        build_model(made.model, SPEC, jax.random.key(0))
