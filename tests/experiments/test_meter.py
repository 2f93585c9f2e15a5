"""The meter of interactions and receptive fields: on functions whose answer is known."""

import jax
import numpy as np
import pytest

from configs import listops as config_of
from experiments import interactions, meter
from experiments.grid import RECORDS
from gconv.data import tasks
from gconv.data.dataset import Split
from gconv.data.generators import listops
from gconv.training import loop
from gconv.training.metrics import read_json
from gconv.training.step import build_model


@pytest.fixture(scope="module")
def split():
    """Expressions of up to 32 tokens."""
    grammar = listops.Grammar(min_length=20, max_length=33)
    made = [example for _, example in zip(range(60), listops.generate(grammar, 0), strict=False)]
    inputs = np.zeros((60, 32), np.uint8)
    for row, example in zip(inputs, made, strict=True):
        row[: len(example.tokens)] = np.frombuffer(example.tokens, np.uint8)
    lengths = np.array([len(example.tokens) for example in made], np.int32)
    return Split(inputs, lengths, np.array([example.value for example in made], np.int32))


def model_of(mixer, **fields):
    config = config_of.get_config(f"{mixer},smoke")
    config.update_from_flattened_dict({"model.dropout": 0.0, "model.layers": 1, **fields})
    return build_model(config.model, tasks.spec("listops", 32, {}), jax.random.key(0))


def test_bins_double_and_cover_every_distance():
    assert meter.bins(64) == [(1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63)]
    assert meter.bins(6) == [(1, 1), (2, 3), (4, 5)]


def test_pairs_are_expressions_with_tokens_of_their_kind_at_their_distance(split):
    pairs = meter.draw_pairs(split, 4, 7, 30, np.random.default_rng(0))
    assert pairs.inputs.shape == (4, 30, 32)
    distances = set()
    for (before, first, second, both), length in zip(pairs.inputs.swapaxes(0, 1), pairs.lengths, strict=True):
        (i,), (j,) = np.flatnonzero(before != first), np.flatnonzero(before != second)
        distances.add(abs(int(i) - int(j)))
        assert max(i, j) < length and both[i] == first[i] and both[j] == second[j]
        assert np.sum(both != before) == 2
        for place, new in ((i, first[i]), (j, second[j])):
            names = listops.VOCABULARY[before[place]], listops.VOCABULARY[new]
            assert len({name in listops.OPERATORS for name in names}) == 1 and listops.END not in names
        meter.value(both[:length].tobytes())
    assert distances == {4, 5, 6, 7}
    with pytest.raises(ValueError, match="only 0 were found"):
        meter.draw_pairs(split, 40, 50, 1, np.random.default_rng(0))


def test_the_task_itself_scores_its_values(split):
    assert (meter.true_scores(split.inputs, split.lengths).argmax(-1) == split.labels).all()


def test_an_interaction_is_the_second_difference_beside_the_effects():
    pair = np.array([[[1, 3]], [[2, 3]], [[1, 5]], [[2, 5]]])  # a, b from 1, 3 to 2, 5
    pairs = meter.Pairs(pair, np.array([2]))
    product = meter.interaction(pairs, lambda x, n: x.prod(1)[:, None] * [1, -1])  # 3, 6, 5 and 10
    assert product == pytest.approx(2 / np.sqrt((3**2 + 2**2) / 2))
    assert meter.interaction(pairs, lambda x, n: x.sum(1)[:, None] * [1, -1]) == 0
    shared = meter.interaction(pairs, lambda x, n: x.sum(1)[:, None] * [1, -1] + x.prod(1)[:, None])
    assert shared == 0  # what all scores have in common says nothing


def test_scores_at_random_interact_by_the_root_of_two():
    rng = np.random.default_rng(0)
    pairs = meter.Pairs(np.zeros((4, 4000, 2)), np.full(4000, 2))
    assert meter.interaction(pairs, lambda x, n: rng.standard_normal((len(x), 10))) == pytest.approx(2**0.5, rel=0.02)


def test_tokens_interact_in_a_model_only_if_it_mixes_them(split):
    pairs = meter.draw_pairs(split, 1, 3, 40, np.random.default_rng(0))
    alone = meter.interaction(pairs, meter.scores_of(model_of("local", **{"model.mixer_options.taps": 1})))
    mixed = meter.interaction(pairs, meter.scores_of(model_of("attention")))
    assert alone < 1e-4 and mixed > 0.01  # a sum in float32


def test_scores_are_those_of_the_model_however_they_are_batched(split, monkeypatch):
    model = model_of("gconv")
    expected = np.asarray(model(split.inputs, split.lengths))
    monkeypatch.setattr(meter, "BATCH", 25)
    np.testing.assert_allclose(meter.scores_of(model)(split.inputs, split.lengths), expected, atol=1e-5)


@pytest.mark.parametrize(
    "mixer, taps, reach", [("local", 1, 0), ("local", 5, 2), ("gconv", 0, 31), ("attention", 0, 31)]
)
def test_the_receptive_field_reaches_as_far_as_the_kernel(split, mixer, taps, reach):
    model = model_of(mixer, **({"model.mixer_options.taps": taps} if taps else {}))
    full = split._replace(inputs=split.inputs % 5 + 1, lengths=np.full(60, 32))
    field = meter.receptive_field(model, full, 256, np.random.default_rng(0))
    assert field[0] == 1 and (field[1 : reach + 1] > 1e-4).all() and (field[reach + 1 :] < 1e-5).all()


def test_the_features_that_are_differentiated_are_those_that_are_pooled(split):
    for mixer in ("gconv", "attention"):
        model = model_of(mixer)
        mask = np.arange(32) < split.lengths[:, None]
        features = np.asarray(meter.last_features(model, model.embed(split.inputs.astype(np.int32)), mask))
        pooled = (features * mask[..., None]).sum(1) / split.lengths[:, None]
        np.testing.assert_allclose(model.head(pooled), model(split.inputs, split.lengths), atol=1e-5)


def test_runs_are_measured_before_and_after_training(tmp_path, monkeypatch):
    monkeypatch.setattr(interactions, "PAIRS", 8)
    monkeypatch.setattr(interactions, "EXAMPLES", 16)
    monkeypatch.setattr(interactions.structure, "measure", list)
    config = config_of.get_config("gconv,smoke")
    config.data_dir = str(tmp_path)
    config.steps, config.eval_every, config.checkpoint_every, config.optim.lr = 20, 20, 20, 0.03
    result = loop.train_and_evaluate(config, str(tmp_path / "run"))
    folder = tmp_path / "out"
    folder.mkdir()
    interactions.measure([tmp_path / "run"], folder)
    record = read_json(folder / "trained.json")
    (model,) = interactions.groups(record)["gconv", 2]
    assert model.test_accuracy == result["test_accuracy"] and model.features == 32
    assert len(model.trained) == len(record["task"]) == len(meter.bins(32)) and len(model.field) == 32
    assert model.trained != model.untrained and min(record["task"]) > 0.2
    assert (folder / "trained.md").read_text() == interactions.trained_table(record)
    for name in ("trained", "field", "kernels"):
        assert (folder / f"{name}.png").stat().st_size > 5000


def test_the_published_table_is_that_of_its_record():
    folder = RECORDS / "interactions"
    assert interactions.trained_table(read_json(folder / "trained.json")) == (folder / "trained.md").read_text()
