"""Heads in whose place a convolution is put."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import listops as config_of
from experiments import heads
from experiments.grid import RECORDS
from gconv.data import tasks
from gconv.data.dataset import Dataset, Split
from gconv.training import loop
from gconv.training.metrics import read_json
from gconv.training.step import build_model

LENGTH, HEADS = 32, 2


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, LENGTH + 1, size=20).astype(np.int32)
    inputs = rng.integers(1, 16, size=(20, LENGTH)).astype(np.uint8) * (np.arange(LENGTH) < lengths[:, None])
    return Split(inputs.astype(np.uint8), lengths, rng.integers(10, size=20).astype(np.int32))


@pytest.fixture(scope="module")
def config():
    config = config_of.get_config("attention,smoke")
    config.model.dropout = 0.0
    return config


@pytest.fixture(scope="module")
def built(config):
    return nnx.split(build_model(config.model, tasks.spec("listops", LENGTH, {}), jax.random.key(0)))


@pytest.fixture
def model(built):
    graphdef, params = built
    return nnx.merge(graphdef, jax.tree.map(jnp.copy, params))


def flat(model):
    """Makes every attention map uniform."""
    for block in model.blocks:
        kernel = block.mixer.qkv.kernel
        thirds = kernel[...].reshape(len(kernel[...]), HEADS, 3, -1)
        kernel[...] = thirds.at[:, :, 0].set(0).reshape(kernel[...].shape)
    return model


def test_maps_are_those_of_attention(model, split):
    mixer, mask = model.blocks[0].mixer, np.arange(LENGTH) < split.lengths[:, None]
    x = jax.random.normal(jax.random.key(1), (20, LENGTH, 32))
    maps, values = heads.attention_maps(mixer, x, mask)
    np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-5)
    assert float(np.abs(maps * ~mask[:, None, None, :]).max()) == 0
    mixed = np.einsum("bhts,bshc->bthc", maps, values).reshape(x.shape)
    np.testing.assert_allclose(mixer.out(mixed), mixer(x, mask), atol=1e-5)


def test_a_kernel_at_a_lag_is_a_shift():
    kernels = np.zeros((1, 7))
    kernels[0, 3 + 2] = 1  # lag 2: y[t] = x[t − 2]
    np.testing.assert_array_equal(heads.toeplitz(kernels, 4)[0] @ [1, 2, 3, 4], [0, 0, 1, 2])
    np.testing.assert_array_equal(heads.toeplitz(kernels, 3)[0] @ [1, 2, 3], [0, 0, 1])  # of a shorter sequence


def test_a_planted_toeplitz_map_is_found_and_noise_is_told():
    rng = np.random.default_rng(0)
    kernels, length = rng.standard_normal((2, 15)), 8
    maps = np.asarray(heads.toeplitz(kernels, length))
    number = np.triu(np.ones((length, length))) * 3 + 1  # pairs that fewer or more examples have
    exact = heads.Sums(maps * number, (maps**2 * number).sum((1, 2)), number)
    np.testing.assert_allclose(heads.fit(exact), kernels, atol=1e-12)
    np.testing.assert_allclose(heads.explained(exact, maps), 1)
    mean = exact.maps.sum((1, 2), keepdims=True) / number.sum()
    np.testing.assert_allclose(heads.explained(exact, mean + 0 * maps), 0, atol=1e-12)
    # A map that isn't Toeplitz is explained by an untied matrix, and noise by neither.
    untied = rng.standard_normal((1, length, length))
    for share in (1, 0):
        drawn = share * untied + (1 - share) * rng.standard_normal((500, 1, length, length))
        drawn = np.broadcast_to(drawn, (500, 1, length, length))
        sums = heads.Sums(drawn.sum(0), (drawn**2).sum((0, 2, 3)), np.full((length, length), 500))
        tied = heads.explained(sums, np.asarray(heads.toeplitz(heads.fit(sums), length)))
        assert heads.explained(sums, sums.maps / sums.number) == pytest.approx(share, abs=0.01)
        assert 0.05 < tied < 0.6 if share else abs(tied) < 0.01


def test_the_fit_is_the_least_squares_solution_over_real_tokens(model, split):
    mask = np.arange(LENGTH) < split.lengths[:, None]
    pairs = mask[:, :, None] & mask[:, None, :]
    design = (heads.lags(LENGTH) + LENGTH - 1)[None].repeat(20, 0)[pairs]
    x = model.embed(split.inputs.astype(np.int32))
    for block, sums in zip(model.blocks, heads.sums_of(model, split, batch_size=8), strict=True):
        maps, _ = heads.attention_maps(block.mixer, block.mixer_norm(x), mask)
        target = np.asarray(maps, np.float64)[:, 1][pairs]
        solution = np.linalg.lstsq(np.eye(2 * LENGTH - 1)[design], target, rcond=None)[0]
        kernels = heads.fit(sums)
        np.testing.assert_allclose(kernels[1], solution, atol=1e-6)
        rest = np.square(target - solution[design]).sum() / np.square(target - target.mean()).sum()
        r2 = heads.explained(sums, np.asarray(heads.toeplitz(kernels, LENGTH)))
        assert r2[1] == pytest.approx(1 - rest, abs=1e-4)
        x = block(x, mask)


def test_no_head_replaced_or_each_by_its_exact_map_leaves_the_scores(model, split):
    full = split._replace(lengths=np.full(20, LENGTH, np.int32))
    model = flat(model)  # whose maps are 1/32 everywhere: Toeplitz
    expected = model(full.inputs, full.lengths)
    fitted = [heads.fit(sums) for sums in heads.sums_of(model, full)]
    np.testing.assert_allclose(fitted[0], 1 / LENGTH, rtol=1e-4)
    nothing = [np.zeros_like(kernels) for kernels in fitted]
    none, every = np.zeros((2, HEADS), bool), np.ones((2, HEADS), bool)
    for kernels, which in ((nothing, none), (fitted, every)):
        changed = heads.replace(model, kernels, which)
        np.testing.assert_allclose(changed(full.inputs, full.lengths), expected, atol=1e-5)
    gone = heads.replace(model, nothing, every)(full.inputs, full.lengths)
    assert float(np.abs(gone - expected).max()) > 1e-3
    np.testing.assert_allclose(model(full.inputs, full.lengths), expected)  # the model itself is as it was


def test_only_the_replaced_head_changes(model, split):
    mixer = model.blocks[0].mixer
    x = jax.random.normal(jax.random.key(1), (2, LENGTH, 32))
    mixer.out.kernel[...] = np.eye(32)
    changed = heads.ToeplitzHeads(mixer, np.ones((HEADS, 2 * LENGTH - 1)), (False, True))(x)
    same = np.isclose(changed, mixer(x), atol=1e-5).all((0, 1))
    assert same[:16].all() and not same[16:].any()


def test_padding_changes_nothing(model, split):
    changed = heads.replace(model, [np.ones((HEADS, 2 * LENGTH - 1))] * 2, np.ones((2, HEADS), bool))
    other = np.where(np.arange(LENGTH) < split.lengths[:, None], split.inputs, 9)
    expected = changed(split.inputs, split.lengths)
    np.testing.assert_allclose(changed(other, split.lengths), expected, atol=1e-5)


def test_training_on_moves_kernels_and_all_else_and_learns(model, config, split, monkeypatch):
    monkeypatch.setattr(heads, "STEPS", 30)
    monkeypatch.setattr(heads, "WARMUP", 2)
    changed = heads.replace(model, [np.zeros((HEADS, 2 * LENGTH - 1))] * 2, np.ones((2, HEADS), bool))
    data = Dataset({"train": split}, tasks.spec("listops", LENGTH, {}), {}, chance=0.1)
    after = heads.train_on(changed, config, data)
    assert float(np.abs(after.blocks[0].mixer.kernels[...]).max()) > 1e-4
    assert float(np.abs(changed.blocks[0].mixer.kernels[...]).max()) == 0  # the model given is as it was
    assert heads.correct(after, split).mean() > heads.correct(changed, split).mean() + 0.2


def test_losses_are_paired():
    before, after = np.array([1, 1, 1, 0] * 100, bool), np.array([1, 1, 0, 0] * 100, bool)
    mean, half = heads.loss(before, after)
    assert mean == 0.25 and half == pytest.approx(1.96 * np.sqrt(0.25 * 0.75 / 400), rel=0.01)
    assert heads.loss(before, before) == (0, 0)


def test_the_published_table_is_that_of_its_record():
    folder = RECORDS / "heads"
    assert heads.table(read_json(folder / "heads.json")) == (folder / "heads.md").read_text()


def test_every_head_of_a_run_is_measured_and_all_at_once(tmp_path, monkeypatch, config):
    monkeypatch.setattr(heads, "STEPS", 2)
    config = config.copy_and_resolve_references()
    config.data_dir = str(tmp_path)
    config.steps, config.eval_every, config.checkpoint_every = 4, 4, 4
    config.model.mixer_options.heads = 1
    result = loop.train_and_evaluate(config, str(tmp_path / "run"))
    heads.measure([tmp_path / "run"], tmp_path)
    (model,) = read_json(tmp_path / "heads.json")
    assert [(head["layer"], head["head"]) for head in model["heads"]] == [(1, 1), (2, 1)]
    assert all(head["r2"] <= head["untied"] <= 1 and len(head["kernel"]) == 2 * LENGTH - 1 for head in model["heads"])
    assert list(model["all"]) == list(heads.ALL)
    assert model["all"]["attention, as trained"] == result["test_accuracy"]
    assert (tmp_path / "heads.md").read_text() == heads.table([model])
    assert (tmp_path / "heads.png").stat().st_size > 5000
