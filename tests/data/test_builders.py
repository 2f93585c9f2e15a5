"""What is drawn and generated: Pathfinder's resumed preparation, pairs of reviews, everything at once, and sheets."""

import collections
import json
import random
import tracemalloc

import numpy as np
import pytest

from gconv.data import show, tasks
from gconv.data.builders import base, imdb, pathfinder, same_film
from gconv.data.builders.pathfinder import Pathfinder, resumable
from gconv.data.dataset import Spec
from gconv.data.generators.pathfinder import SHORT, STIMULI, Example, generate
from gconv.errors import UserError
from tests.data.test_tasks import load, reviews, write_archive


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(pathfinder, "PART_PIXELS", 20 * 32 * 32)


def made(parts, total=50):
    return resumable(STIMULI[32], 7, total, 1, parts)


def equal(examples, others):
    return all(a.label == b.label and np.array_equal(a.image, b.image) for a, b in zip(examples, others, strict=True))


def test_an_interrupted_generation_goes_on_where_it_was(small_parts, tmp_path, monkeypatch, capsys):
    expected = list(generate(STIMULI[32], 7, 0, 50))
    interrupted = made(tmp_path)
    for _ in range(45):
        next(interrupted)
    interrupted.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npz", "20.npz", "40.npz"]
    (tmp_path / "40.npz").rename(tmp_path / "40.partial")  # killed while this was written
    asked = []

    def watched(stimulus, seed, start, stop, workers):
        asked.append((start, stop))
        return generate(stimulus, seed, start, stop, workers)

    monkeypatch.setattr(pathfinder.pathfinder, "generate", watched)
    assert equal(list(made(tmp_path)), expected)
    assert asked == [(40, 50)]
    assert "going on after 40 of 50 images" in capsys.readouterr().err
    assert equal(list(made(tmp_path)), expected) and asked[1:] == [(50, 50)]


def test_a_damaged_part_is_named(small_parts, tmp_path):
    list(made(tmp_path))
    path = tmp_path / "20.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"20\.npz is damaged \(.*\); remove it to have it made again"):
        list(made(tmp_path))
    np.savez(path, images=np.array([None]), labels=np.zeros(1))
    with pytest.raises(UserError, match=r"20\.npz is damaged \(Object arrays cannot be loaded when allow_pickle"):
        list(made(tmp_path))


def test_an_interrupted_preparation_is_resumed_and_leaves_nothing_behind(small_parts, tmp_path, monkeypatch):
    whole = load("pathfinder", tmp_path / "a", "smoke", length=1024)
    assert not list((tmp_path / "a").glob(".[!l]*d-*")) and len(whole.splits["train"].labels) == 192
    stored = pathfinder._save

    def killed(path, examples):
        if path.name == "100.npz":
            raise KeyboardInterrupt
        stored(path, examples)

    monkeypatch.setattr(pathfinder, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        tasks.prepare("pathfinder", "smoke", str(tmp_path / "b"))
    assert not (tmp_path / "b/pathfinder").exists()
    (kept,) = (tmp_path / "b").glob(".unfinished-pathfinder-smoke-*")
    assert len(list(kept.iterdir())) == 5
    old = tmp_path / "b/.unfinished-pathfinder-smoke-0123"  # of another version
    old.mkdir()
    monkeypatch.setattr(pathfinder, "_save", stored)
    resumed = load("pathfinder", tmp_path / "b", "smoke", length=1024)
    assert resumed.record == whole.record, "two builds of one seed"
    assert not list((tmp_path / "b").glob(".unfinished-*")) and not list((tmp_path / "b").glob(".preparing-*"))


def test_pathfinders_set_is_the_generators_and_says_so(tmp_path):
    data = load("pathfinder", tmp_path, "smoke", length=1024)
    expected = list(generate(STIMULI[32], 0, 0, 320))
    images = np.concatenate([data.splits[split].inputs for split in tasks.SPLITS])
    np.testing.assert_array_equal(images, np.stack([example.image.reshape(-1) for example in expected]))
    assert [data.splits["test"].labels.tolist()] == [[example.label for example in expected[-64:]]]
    assert "not LRA's own images" in data.record["source"] and data.spec == Spec(1024, 2, 0, 1)
    manifest = tasks.manifest("pathfinder", "smoke", str(tmp_path))
    assert (manifest["seed"], manifest["builder"]) == (0, "pathfinder 1.0.0")
    for split in tasks.SPLITS:
        assert manifest["splits"][split]["classes"] == np.bincount(data.splits[split].labels).tolist()


def test_the_short_variant_is_of_short_contours_and_generated_only(tmp_path, monkeypatch):
    for split in tasks.SPLITS:
        monkeypatch.setattr(Pathfinder.builder_configs["short"], split, 8)
    data = load("pathfinder", tmp_path, "short", length=1024)
    expected = [example.image.reshape(-1) for example in generate(SHORT, 0, 0, 24)]
    np.testing.assert_array_equal(np.concatenate([data.splits[split].inputs for split in tasks.SPLITS]), expected)
    assert "paddles=6" in data.record["source"] and "not LRA's own images" in data.record["source"]
    with pytest.raises(UserError, match="pathfinder/short is generated only"):
        tasks.prepare("pathfinder", "short", str(tmp_path / "other"), str(tmp_path))


@pytest.mark.parametrize("size", [64, 100])  # 192 is three shards of 64
def test_a_split_is_written_a_shard_at_a_time(tmp_path, monkeypatch, size):
    one = load("pathfinder", tmp_path / "a", "smoke", length=1024)
    monkeypatch.setattr(base, "SHARD", size)
    many = load("pathfinder", tmp_path / "b", "smoke", length=1024)
    assert many.record == one.record
    shards = sorted(path.name for path in (tmp_path / "b/pathfinder/smoke/1.0.0").glob("*train*"))
    assert len(shards) == -(-192 // size) and shards[0].endswith(f"00000-of-0000{len(shards)}")


def test_writing_holds_a_shard_and_not_the_split(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHARD", 100)
    monkeypatch.setattr(Pathfinder.builder_configs["smoke"], "train", 10_000)
    image = np.zeros((32, 32), np.uint8)
    monkeypatch.setattr(pathfinder, "resumable", lambda *_: (Example(image + i % 251, 0) for i in range(10_128)))
    tracemalloc.start()
    tasks.prepare("pathfinder", "smoke", str(tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000 * 1024 * 0.8


def test_a_set_that_was_generated_otherwise_is_refused(tmp_path, monkeypatch):
    load("pathfinder", tmp_path, "smoke", length=1024)
    monkeypatch.setattr(Pathfinder.builder_configs["smoke"], "seed", 1)
    with pytest.raises(UserError, match=r"was generated .* seed 0, .* makes what is generated .* seed 1, .*: remove"):
        load("pathfinder", tmp_path, "smoke", length=1024)


def test_a_split_is_read_straight_into_its_array():
    examples, length = 2_000, 16_384
    stream = ((np.full(length, i % 251, np.uint8).tobytes(),) for i in range(examples))
    tracemalloc.start()
    split, _ = tasks._pack("pathx", "train", ((sequences, 0) for sequences in stream), examples, length)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert split.inputs.shape == (examples, length) and (split.inputs[:, -1] == np.arange(examples) % 251).all()
    assert peak < 1.05 * split.inputs.nbytes


FILMS = 40  # a side, each with reviews 2 i, 2 i + 1, … of either class


def film_archive(path, per_class=80):
    members = reviews(per_class)
    for side, first in (("train", 0), ("test", FILMS)):
        for label in ("neg", "pos"):
            titles = [f"http://www.imdb.com/title/tt{first + i % FILMS:07d}/usercomments\n" for i in range(per_class)]
            members[f"aclImdb/{side}/urls_{label}.txt"] = "".join(titles).encode()
    write_archive(path / "aclImdb_v1.tar.gz", members)


@pytest.fixture
def few_reviews(monkeypatch):
    monkeypatch.setattr(imdb, "_PER_CLASS", 80)


def test_same_film_pairs_are_balanced_and_right(few_reviews, tmp_path):
    film_archive(tmp_path)
    tasks.prepare("same_film", "", str(tmp_path / "data"), str(tmp_path))
    data = load("same_film", tmp_path / "data", length=32)
    assert data.spec == Spec(32, 2, 256, 2)
    assert data.record["source"].startswith("pairs drawn with seed 0 from https://")
    assert data.record["source"].endswith("; not LRA's Retrieval")
    films = {}
    for split in tasks.SPLITS:
        inputs, lengths, labels = data.splits[split]
        assert labels.mean() == 0.5 and len(labels) > 10
        films[split], seen = set(), collections.Counter()
        for texts, sizes, label in zip(inputs, lengths, labels, strict=True):
            read = [text[:size].tobytes().decode().split() for text, size in zip(texts, sizes, strict=True)]
            sides, _, numbers, _ = zip(*read, strict=True)
            assert set(sides) == {"test" if split == "test" else "train"}
            first, second = (int(number) % FILMS for number in numbers)
            assert (first == second) == label
            films[split] |= {first, second}
            for place in (0, 1):
                seen[place, tuple(read[place])] += 2 * int(label) - 1
            seen["sentiments", read[0][1], read[1][1]] += 2 * int(label) - 1
        assert not any(seen.values()), "a review, or two sentiments, tell something about the label"
    assert not films["train"] & films["validation"] and len(films["validation"]) == FILMS // 10


def test_same_film_needs_the_films(few_reviews, tmp_path):
    write_archive(tmp_path / "aclImdb_v1.tar.gz", reviews(80))
    with pytest.raises(UserError, match=r"aclImdb/train/urls_neg\.txt names the films of 0 reviews instead of 80"):
        tasks.prepare("same_film", "", str(tmp_path / "data"), str(tmp_path))
    with pytest.raises(ValueError, match="more than half of the neg reviews are of one film"):
        same_film.pairs([[(i, "neg") for i in range(9)]], 10, random.Random(0))


def test_a_review_that_comes_twice_is_named(few_reviews, tmp_path):
    write_archive(tmp_path / "aclImdb_v1.tar.gz", reviews(80) | {"aclImdb/train/pos/3_10.txt": b"again"})
    with pytest.raises(UserError, match=r"aclImdb/train/pos/3_10\.txt is a second review 3 of aclImdb/train/pos"):
        tasks.prepare("text", "", str(tmp_path / "data"), str(tmp_path))


def test_validation_can_be_the_test_split_as_in_lras_code(few_reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(imdb, "_HELD_OUT", 16)
    film_archive(tmp_path)
    tasks.prepare("text", "", str(tmp_path / "data"), str(tmp_path))
    fair, peers = (load("text", tmp_path / "data", validation_is_test=switch) for switch in (False, True))
    assert fair.record["examples"] == {"train": 144, "validation": 16, "test": 160}
    assert peers.record["examples"] == {"train": 160, "validation": 160, "test": 160}
    assert (fair.record["validation_is_test"], peers.record["validation_is_test"]) == (False, True)
    np.testing.assert_array_equal(peers.splits["validation"].inputs, peers.splits["test"].inputs)
    assert len(np.unique(peers.splits["train"].inputs, axis=0)) == 160
    other = load("listops", tmp_path, "smoke", validation_is_test=True)
    assert other.record["examples"] == {"train": 2000, "validation": 200, "test": 200}


def test_pairs_stand_in(tmp_path):
    for name in ("same_film", "retrieval"):
        data = load(name, tmp_path, length=64, limit=50, stand_in=True)
        assert data.splits["train"].inputs.shape == (50, 2, 64) and data.spec.documents == 2
        assert data.record["source"] == f"stand-in: generated, not {name}" and set(data.splits["test"].labels) == {0, 1}


@pytest.mark.parametrize("name", ["listops/smoke", "pathfinder/smoke", "same_film"])
def test_a_sheet_is_drawn(few_reviews, tmp_path, name):
    film_archive(tmp_path)
    name, _, variant = name.partition("/")
    source = str(tmp_path) if name == "same_film" else None
    tasks.prepare(name, variant, str(tmp_path / "data"), source)
    show.draw_sheet(name, variant, str(tmp_path / "data"), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"--sheet: .*/no/sheet.png can't be written: No such file"):
        show.draw_sheet(name, variant, str(tmp_path / "data"), tmp_path / "no/sheet.png")


def test_everything_at_once(few_reviews, tmp_path, monkeypatch, capsys):
    from absl import flags
    from absl.testing import flagsaver

    from gconv import prepare
    from gconv.data.builders.cifar10 import Cifar10

    film_archive(tmp_path)
    monkeypatch.setattr(imdb, "_HELD_OUT", 16)
    monkeypatch.setattr(Cifar10, "URL", "http://127.0.0.1:9/cifar-10-binary.tar.gz")
    monkeypatch.setattr(
        tasks, "default_variant", lambda name: "smoke" if tasks.TASKS[name].builder.BUILDER_CONFIGS else ""
    )
    flags.FLAGS(["prepare"])
    everything = flagsaver.flagsaver(data_dir=str(tmp_path / "data"), source=str(tmp_path))(prepare.main)
    with pytest.raises(SystemExit) as stopped:
        everything(["prepare", "all"])
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert list(said) == list(tasks.TASKS)
    assert said["retrieval"].startswith("not prepared; it needs Long Range Arena's release")
    assert said["path256"].startswith("left out, ") and said["image"].startswith("FAILED: cifar10: downloading http")
    for name in ("listops", "text", "pathfinder", "pathx", "same_film"):
        assert said[name].startswith("prepared in ")
    assert stopped.value.code == 1, "a download that should have worked failed"
    monkeypatch.delitem(tasks.TASKS, "image")
    with pytest.raises(SystemExit) as stopped:
        everything(["prepare", "all"])
    assert stopped.value.code == 0, "what can't be had is no failure"
    assert json.loads((tmp_path / "data/pathx/smoke/1.0.0/manifest.json").read_text())["seed"] == 0
