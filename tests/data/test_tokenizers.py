"""From what a person has to what a model reads."""

import numpy as np
import PIL.Image
import pytest

from gconv.data import tasks
from gconv.data.builders.cifar10 import grey
from gconv.errors import UserError


def test_a_text_is_its_bytes_cut_at_the_length():
    tokenizer = tasks.tokenizer("text", 6)
    assert tokenizer("naïve") == "naïve".encode()
    assert tokenizer(b"\xff longer") == b"\xff long"


def test_an_expression_is_its_tokens():
    tokenizer = tasks.tokenizer("listops", 8)
    assert tokenizer("( ( [MAX 4 [MIN 2 3 ] 7 ] ) )") == bytes([2, 10, 1, 8, 9, 5, 13, 5])
    assert tokenizer("7") == bytes([13])


@pytest.mark.parametrize(
    "expression, message",
    [
        ("[MAX 4 x ]", "'x' is no ListOps token"),
        ("[MAX 4 ] 3", "ends before token 4, '3'"),
        ("4 3", "ends before token 2, '3'"),
        ("]", "']' closes nothing"),
        ("[MAX 4 [MIN 2", "2 of its brackets aren't closed"),
        ("[SM 1 2 3 4 5 6 7 ]", "it has 9 tokens; the model reads 8 at most"),
        (" ", "it is empty"),
    ],
)
def test_an_expression_that_cannot_be_read_is_named(expression, message):
    with pytest.raises(UserError, match=message):
        tasks.tokenizer("listops", 8)(expression)


def test_a_picture_is_its_grey_pixels(tmp_path):
    tokenizer = tasks.tokenizer("image", 256)
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    PIL.Image.fromarray(greys).save(tmp_path / "grey.png")
    assert tokenizer(tmp_path / "grey.png") == greys.tobytes()
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    PIL.Image.fromarray(colours).save(tmp_path / "colour.png")
    as_prepared = grey(np.moveaxis(colours, 2, 0).reshape(1, 3, 256))
    assert tokenizer(str(tmp_path / "colour.png")) == as_prepared.tobytes()


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    tokenizer = tasks.tokenizer("pathfinder", 1024)
    sizes = {"wide.png": (32, 16), "small.png": (16, 16)}
    for name, (width, height) in sizes.items():
        PIL.Image.new("L", (width, height)).save(tmp_path / name)
    PIL.Image.fromarray(np.full((32, 32), 1000, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, message in {
        "wide.png": "it is 32 × 16 pixels, not a square",
        "small.png": "it is 16 × 16 pixels; the model reads 32 × 32",
        "deep.png": "its pixels have more than 8 bits",
        "text.png": "no picture can be read from it",
        "missing.png": "no picture can be read from it",
    }.items():
        with pytest.raises(UserError, match=message):
            tokenizer(tmp_path / name)
