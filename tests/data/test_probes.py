"""Probes: each label is what a slow reader of the definition finds from the tokens up to it."""

import jax
import numpy as np
import pytest

from configs import probes
from gconv.data import tasks
from gconv.data.generators.probes import PROBES, answers
from gconv.errors import UserError
from gconv.training.step import build_model, spec_of

LENGTH = 24
OPTIONS = {
    "mqar": {"vocabulary": 40, "pairs": 4, "power": 0.01, "blanks": False},
    "scattered_mqar": {"vocabulary": 40, "pairs": 4},
    "recall": {"vocabulary": 12},
    "induction": {"vocabulary": 9},
    "selective_copying": {"vocabulary": 7, "tokens": 5},
    "copying": {"vocabulary": 8, "shortest": 3},
    "ngram_lookup": {"vocabulary": 5, "n": 2},
    "majority": {},
    "parity": {},
    "memorization": {"vocabulary": 16},
    "compression": {"vocabulary": 9},
}


def made(name, count=400, seed=0, length=LENGTH, **options):
    return PROBES[name](np.random.default_rng(seed), count, length, **{**OPTIONS[name], **options})


def answer(name, row, at):
    """The answer at a position, from the tokens up to it."""
    seen, options = list(row[: at + 1]), OPTIONS[name]
    if name in ("mqar", "scattered_mqar"):
        return seen[seen.index(seen[-1]) + 1]
    if name == "recall":
        return seen[next(i for i in range(0, at - 1, 2) if seen[i] == seen[-1]) + 1]
    if name == "induction":
        return seen[seen.index(options["vocabulary"] - 1) + 1]
    if name in ("selective_copying", "copying"):
        end = seen.index(options["vocabulary"] - 1)
        return [token for token in seen[:end] if token < options["vocabulary"] - 2][at - end - 1]
    if name == "ngram_lookup":
        gram = seen[-options["n"] :]
        return next(seen[i + len(gram)] for i in range(at) if seen[i : i + len(gram)] == gram)
    if name in ("majority", "parity"):
        ones = seen[:-1].count(1)
        return ones % 2 if name == "parity" else int(2 * ones > at)
    if name == "compression":
        return seen[-1]
    raise AssertionError(name)


@pytest.mark.parametrize("name", [name for name in PROBES if name != "memorization"])
def test_labels_are_what_a_reader_of_the_definition_answers(name):
    probe = made(name)
    asked = np.argwhere(probe.labels >= 0)
    assert len(asked) >= len(probe.labels)
    for row, at in asked:
        assert probe.labels[row, at] == answer(name, probe.inputs[row], at)


@pytest.mark.parametrize("name", PROBES)
def test_ids_are_in_range_and_every_sequence_is_asked(name):
    probe = made(name)
    ids = OPTIONS[name].get("vocabulary", 3)
    assert probe.inputs.shape == probe.labels.shape == (400, LENGTH)
    assert probe.inputs.min() >= 0 and probe.inputs.max() < ids and probe.labels.max() < ids
    asked = (probe.labels >= 0).sum(axis=1)
    assert asked.min() >= 1 and asked.max() == answers(name, LENGTH, OPTIONS[name])
    assert len(np.unique(probe.inputs, axis=0)) > 390, "no two alike"
    assert (made(name, seed=1).inputs != probe.inputs).any()


@pytest.mark.parametrize(
    "name", [name for name in PROBES if name not in ("mqar", "scattered_mqar", "memorization", "compression")]
)
def test_no_token_from_the_question_on_tells_the_answer(name):
    """Whoever sees later tokens too gains nothing: those are the same whatever the answer, or lie before it."""
    probe = made(name)
    ids = OPTIONS[name].get("vocabulary", 3)
    for row, labels in zip(probe.inputs, probe.labels, strict=True):
        last = np.flatnonzero(labels >= 0)[-1]
        assert name == "copying" or last == LENGTH - 1
        if name in ("selective_copying", "copying"):
            question = np.flatnonzero(row == ids - 1)
            assert len(question) == 1 and (row[question[0] + 1 :] == ids - 2).all()


@pytest.mark.parametrize("name", ["mqar", "scattered_mqar"])
def test_recall_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match="pairs must be at least 1; got 0"):
        made(name, pairs=0)


def test_mqar_is_laid_out_as_published():
    probe = made("mqar")
    keys, values = probe.inputs[:, 0:8:2], probe.inputs[:, 1:8:2]
    assert keys.min() >= 1 and keys.max() < 20 <= values.min() and values.max() == 39
    for rows in (keys, values):
        assert all(len(set(row)) == 4 for row in rows)
    asked = probe.labels >= 0
    assert (asked.sum(axis=1) == 4).all() and not asked[:, :8].any() and not asked[:, 1::2].any()
    gaps = (np.argwhere(asked)[:, 1] - 8) // 2
    assert set(gaps) == set(range(8))
    assert (gaps < 3).mean() > 0.45, "short gaps are the likely ones (3/8 if all were alike)"
    assert probe.guess == 0.25
    blank = PROBES["mqar"](np.random.default_rng(0), 400, LENGTH, **{**OPTIONS["mqar"], "blanks": True})
    told = blank.inputs != 0
    assert (told == ((np.arange(LENGTH) < 8) | asked)).all() and (blank.inputs[told] == probe.inputs[told]).all()
    assert (blank.labels == probe.labels).all()


def test_only_attention_has_positions_in_published_mqar_and_all_mixers_in_the_small_one():
    for mixer, positions in (("gconv", "none"), ("gated", "none"), ("attention", "learnt"), ("transformer", "learnt")):
        full, small = (probes.get_config(f"{mixer},mqar{preset}") for preset in ("", ",small"))
        assert full.model.positions == positions and full.data.options.blanks
        assert small.model.positions == "learnt" and not small.data.options.blanks


def test_scattered_queries_come_after_their_pairs_anywhere():
    probe = made("scattered_mqar")
    asked = np.argwhere(probe.labels >= 0)
    assert len(asked) == 1600 and set(asked[:, 1]) == set(range(2, LENGTH, 2))
    guesses = []
    for row, at in asked:
        before = probe.inputs[row, : at + 1]
        assert list(before).index(before[-1]) < at
        guesses.append(before[before >= 20][-1] == probe.labels[row, at])
    assert probe.guess == pytest.approx(np.mean(guesses)) and 0.35 < probe.guess < 0.5


def test_guesses_are_what_counting_without_order_gives():
    for name, low, high in (("selective_copying", 0, 5), ("copying", 0, 6), ("ngram_lookup", 0, 4)):
        probe = made(name)
        end = -OPTIONS[name].get("n", 0) or None
        shares = []
        for row in probe.inputs:
            letters = [token for token in row[: None if end is None else end] if low <= token < high]
            shares.append(np.bincount(letters).max() / len(letters))
        assert probe.guess == pytest.approx(np.mean(shares)), name
    assert made("parity").guess == pytest.approx(0.5, abs=0.06)


def test_memorised_facts_are_those_of_every_split():
    known = {}
    for seed in range(3):
        probe = made("memorization", seed=seed)
        assert (probe.inputs[:, 1::2] == 15).all() and (probe.labels[:, ::2] == -1).all()
        for key, value in zip(probe.inputs[:, ::2].ravel(), probe.labels[:, 1::2].ravel(), strict=True):
            assert known.setdefault(key, value) == value
    assert len(known) == 8 and min(known.values()) >= 8


def test_a_compressed_sequence_ends_in_the_token_that_holds_it():
    probe = made("compression")
    assert (probe.inputs[:, -1] == 8).all() and (probe.inputs[:, :-1] < 8).all() and (probe.labels[:, -1] == -1).all()
    assert tasks.spec("compression", 32, {"vocabulary": 9}).through_last
    assert not tasks.spec("recall", 32, {"vocabulary": 9}).through_last


def test_splits_differ_and_are_the_same_whenever_they_are_made(tmp_path):
    config = probes.get_config("gconv,mqar,smoke")
    first, again = (tasks.load(**config.data, data_dir=str(tmp_path)) for _ in range(2))
    assert first.record == again.record and first.record["examples"] == {"train": 96, "validation": 32, "test": 32}
    assert first.spec.answers == 4 and first.spec.vocabulary == first.spec.classes == 64
    assert {split.inputs.dtype for split in first.splits.values()} == {np.dtype(np.uint8)}
    assert tasks.spec("recall", 64, {"vocabulary": 257}).dtype == np.uint16
    assert (first.splits["validation"].inputs != first.splits["test"].inputs).any()
    config.data.limit = 8
    assert len(tasks.load(**config.data, data_dir=str(tmp_path)).splits["train"].labels) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options.pairs": 40}, "config.data.options of mqar: 40 pairs and queries don't fit an even length; got 64"),
        ({"options.vocabulary": 6}, "config.data.options of mqar: 4 different ids don't fit 1 to 2"),
        ({"length": 63}, "config.data.options of mqar: .*even length; got 63"),
        ({"options.held_out": 0}, "train and held_out must be at least 1; got .*'test': 0"),
        ({"name": "parity"}, r"config.data.options of parity: parity\(\) got an unexpected keyword argument"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path, changes, message):
    config = probes.get_config("gconv,mqar,smoke")
    config.data.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        tasks.load(**config.data, data_dir=str(tmp_path))


def test_a_config_without_a_probe_says_which_there_are():
    with pytest.raises(ValueError, match="config:gconv,small: expected a probe after the mixer, one of mqar"):
        probes.get_config("gconv,small")


def test_a_model_of_a_probe_is_not_for_use(tmp_path):
    import gconv

    (tmp_path / "config.json").write_text(probes.get_config("gconv,parity,smoke").to_json())
    with pytest.raises(UserError, match="parity is a probe; its models are not for use"):
        gconv.load(tmp_path)


@pytest.mark.parametrize("name", ["copying", "parity"])
def test_a_probe_trains_and_counts_what_is_asked(name, tmp_path):
    from gconv.training import loop

    config = probes.get_config(f"gated,{name},smoke")
    config.steps = 15
    result = loop.train_and_evaluate(config, str(tmp_path / "run"))
    held_out = tasks.load(**config.data, data_dir=config.data_dir).splits["validation"]
    asked = (held_out.labels >= 0).sum()
    assert result["data"]["examples"]["test"] == 32 and (asked == 32) == (name == "parity")
    right = result["val_accuracy"] * asked
    assert abs(right - round(right)) < 1e-6 and 0 < result["test_accuracy"] <= 1


@pytest.mark.parametrize(
    "mixer, changes",
    [
        *((mixer, {}) for mixer in ("gconv", "gconv_plain", "gated", "content", "local", "hybrid", "attention")),
        ("gconv", {"mlp_ratio": 2.0}),
        ("gconv", {"mlp_ratio": 2.0, "norm": "batch"}),
        ("attention", {"mixer_options.short_conv": True}),
    ],
)
@pytest.mark.parametrize("probe", ["mqar", "scattered_mqar", "recall", "selective_copying"])
def test_no_model_of_a_probe_sees_its_answer(probe, mixer, changes):
    """What comes later is nothing to the answer at a position: a leak would make recall look easy."""
    config = probes.get_config(f"{mixer},{probe},small")
    config.model.features = 8
    config.model.update_from_flattened_dict(changes)
    spec = spec_of(config)
    model = build_model(config.model, spec, jax.random.key(0))
    tokens = np.random.default_rng(0).integers(1, spec.vocabulary, (2, spec.length)).astype(np.uint8)
    changed, first = tokens.copy(), spec.length // 2
    changed[:, first:] = spec.vocabulary - tokens[:, first:]
    a, b = (model(x, np.full(2, spec.length, np.int32)) for x in (tokens, changed))
    np.testing.assert_allclose(a[:, :first], b[:, :first], atol=1e-5)
    assert np.abs(a - b)[:, first:].max() > 1e-3
