"""A finished run, loaded and asked."""

import importlib
import json
import shutil

import numpy as np
import PIL.Image
import pytest
from flax import nnx

import gconv
from gconv import predict
from gconv.data import tasks
from gconv.errors import UserError
from gconv.training import loop
from gconv.training.checkpoint import digest


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of every kind of input, and its result."""
    folder = tmp_path_factory.mktemp("runs")
    results = {}
    for task in ("listops", "image", "retrieval"):
        config = importlib.import_module(f"configs.{task}").get_config("gconv,smoke")
        config.data_dir = str(folder)
        config.steps, config.eval_every, config.checkpoint_every = 10, 5, 5
        results[task] = loop.train_and_evaluate(config, str(folder / task))
    return folder, results


@pytest.mark.parametrize("task", ["listops", "image", "retrieval"])
def test_a_loaded_model_scores_what_the_run_did(runs, task, caplog):
    folder, results = runs
    before = {path: path.stat().st_mtime_ns for path in (folder / task).rglob("*")}
    run = gconv.load(folder / task)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert {path: path.stat().st_mtime_ns for path in (folder / task).rglob("*")} == before
    assert run.config.mixer == "gconv" and len(run.classes) == run.model.classes
    test = tasks.load(**run.config.data, data_dir=run.config.data_dir).splits["test"]
    pairs = test.inputs.reshape(len(test.labels), -1, test.inputs.shape[-1])
    lengths = test.lengths.reshape(len(test.labels), -1)
    sequences = [
        tuple(bytes(tokens[:length]) for tokens, length in zip(*example, strict=True))
        for example in zip(pairs, lengths, strict=True)
    ]
    probabilities = run.predict(sequences)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (probabilities.argmax(axis=1) == test.labels).mean() == results[task]["test_accuracy"]
    np.testing.assert_allclose(run.predict(sequences[:3]), probabilities[:3], rtol=1e-5)  # however they are batched
    assert run.predict([]).shape == (0, run.model.classes)


def longer(folder, mixer, **fields):
    config = importlib.import_module("configs.listops").get_config(f"{mixer},smoke")
    config.data_dir = str(folder)
    config.update_from_flattened_dict({"steps": 2, "eval_every": 2, "checkpoint_every": 2, **fields})
    run = folder / f"{mixer}{len(fields)}"
    loop.train_and_evaluate(config, str(run))
    return run


@pytest.mark.parametrize("fields", [{}, {"model.mixer_options.taps": 7}])
def test_a_model_reads_longer_sequences_than_it_was_trained_on(runs, fields):
    """A free kernel's new lags are zero, so what fits the old length scores the same; what doesn't is read whole."""
    run = longer(runs[0], "gconv", **fields)
    short, long = gconv.load(run), gconv.load(run, length=48)
    tokens = bytes(np.random.default_rng(0).integers(1, 15, 48, np.uint8))
    np.testing.assert_allclose(long.predict([tokens[:20]]), short.predict([tokens[:20]]), rtol=1e-4)
    assert long.config.data.length == 48 and short.config.data.length == 32
    assert np.abs(long.predict([tokens]) - long.predict([tokens[:32]])).max() > 1e-3
    assert gconv.load(run, length=16).predict([tokens[:16]]).shape == (1, 10)
    for wrong, message in ((b"", "length 0"), (tokens, "length 48; the model reads 1 to 32"), (b"\xff", "token 255")):
        with pytest.raises(ValueError, match=f"example 1 has the {message}|example 1 has {message}"):
            short.predict([tokens[:20], wrong])


@pytest.mark.parametrize(
    ("mixer", "fields", "message"),
    [
        (
            "gconv",
            {"model.mixer_options.boundary": "circular"},
            "can't read sequences of 48: config.model: a free circular kernel of",
        ),
        ("mlp_mixer", {}, "is of another model: it has no .*48"),
        ("attention", {"model.positions": "learnt"}, r"is of another model: it has no best.positions.value \(48, "),
    ],
)
def test_what_is_tied_to_its_length_says_so(runs, mixer, fields, message):
    run = longer(runs[0], mixer, **fields, **{"optim.clip": 1.0})
    with pytest.raises(UserError, match=message):
        gconv.load(run, length=48)
    with pytest.raises(UserError, match="length must be at least 1; got 0"):
        gconv.load(run, length=0)


def test_its_parameters_are_the_best_on_validation(runs, tmp_path, monkeypatch):
    seen = []

    def evaluate(eval_step, params, split, batch_size, mesh):
        seen.append(digest(params))
        return {"loss": 1.0, "accuracy": 0.5, "correct": 9 - len(seen), "examples": len(split.labels)}

    config = loop.ml_collections.ConfigDict(gconv.load(runs[0] / "listops").config)
    monkeypatch.setattr(loop, "evaluate", evaluate)
    result = loop.train_and_evaluate(config, str(tmp_path))
    loaded = digest(nnx.state(gconv.load(tmp_path).model))
    assert loaded == seen[0] != result["params_sha256"]


def test_a_damaged_checkpoint_is_named_and_left_where_it_is(runs, tmp_path, capsys):
    shutil.copytree(runs[0] / "listops", tmp_path / "run")
    newest = tmp_path / "run/checkpoints/10"
    record = json.loads((newest / "record/metadata").read_text())
    (newest / "record/metadata").write_text(json.dumps({**record, "sha256": "another"}))
    gconv.load(tmp_path / "run")
    assert "checkpoints/10 is damaged" in capsys.readouterr().err and newest.exists()
    shutil.rmtree(tmp_path / "run/checkpoints/5")
    with pytest.raises(UserError, match="holds no whole checkpoint"):
        gconv.load(tmp_path / "run")


def test_what_is_no_run_is_named(runs, tmp_path):
    with pytest.raises(UserError, match=r"config\.json can't be read"):
        gconv.load(tmp_path)
    shutil.copy(runs[0] / "listops/config.json", tmp_path)
    with pytest.raises(UserError, match="this run has saved nothing yet"):
        gconv.load(tmp_path)
    older = json.loads((tmp_path / "config.json").read_text())
    del older["data"]["options"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    with pytest.raises(UserError, match=r"config.json lacks .*'options'.*: another version of gconv wrote it"):
        gconv.load(tmp_path)
    shutil.copy(runs[0] / "image/config.json", tmp_path)
    shutil.copytree(runs[0] / "listops/checkpoints", tmp_path / "checkpoints")
    with pytest.raises(UserError, match=r"is of another model: it has no best\."):
        gconv.load(tmp_path)
    for other in ("[1]", "{}"):
        (tmp_path / "config.json").write_text(other)
        with pytest.raises(UserError, match=f"{tmp_path} holds no run: its config.json isn't one of gconv's"):
            gconv.load(tmp_path)


def test_predictions_of_expressions(runs, tmp_path, capsys):
    file = tmp_path / "expressions.txt"
    file.write_text("[MAX 4 [MIN 2 3 ] 7 ]\n\n[SM 1 2 ]\n")
    predict.main(["predict", str(runs[0] / "listops"), str(file)])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{file}:1: ") and second.startswith(f"{file}:3: ")
    run = gconv.load(runs[0] / "listops")
    best = run.predict([run.tokenizer("[SM 1 2 ]")])[0]
    assert f":3: {best.argmax()} {100 * best.max():.1f}%  " in second
    assert sorted(word for word in second.split()[1::2]) == list("0123456789")


def test_predictions_of_pictures_and_pairs(runs, tmp_path, capsys):
    PIL.Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    predict.main(["predict", str(runs[0] / "image"), str(tmp_path / "red.png")])
    line = capsys.readouterr().out
    assert line.startswith(f"{tmp_path / 'red.png'}: ") and " airplane " in line
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("a text")
    other.write_bytes(b"another\xff")
    predict.main(["predict", str(runs[0] / "retrieval"), str(one), str(other)])
    assert capsys.readouterr().out.startswith(f"{one}, {other}: ")


@pytest.mark.parametrize(
    "task, content, message",
    [
        ("listops", "[MAX 4 ]\n[MAX 4 x ]\n", r"file:2: 'x' is no ListOps token"),
        ("listops", b"\xff\xfe", "file can't be read: "),
        ("listops", "\n \n", "file: it is empty"),
        ("listops", None, "file can't be read: No such file or directory"),
        ("image", "no picture", "file: no picture can be read from it"),
        ("image", None, "file can't be read: No such file or directory"),
        ("retrieval", "one text alone", "retrieval compares two texts; got 1 files"),
        ("retrieval", "", "file: it is empty"),
    ],
)
def test_a_file_that_cannot_be_predicted_is_named(runs, tmp_path, task, content, message):
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        predict.main(["predict", str(runs[0] / task), str(file)])
    with pytest.raises(UserError, match="expected a run and files"):
        predict.main(["predict", str(runs[0] / task)])
