"""From what a person has, a text, an expression or a picture, to the bytes that a model reads.

A tokenizer raises UserError for what it can't read; the message doesn't say where that came from, its caller does.
"""

from pathlib import Path

import numpy as np
import PIL.Image

from gconv.data.builders.cifar10 import grey
from gconv.data.generators import listops
from gconv.errors import UserError


def text(content: str | bytes) -> bytes:
    """A text as its bytes (UTF-8), as the reviews and papers are stored."""
    return content.encode() if isinstance(content, str) else content


def expression(content: str) -> bytes:
    """A whole ListOps expression, `[MAX 4 [MIN 2 3 ] 7 ]`, as its token ids."""
    try:
        tokens = listops.to_tokens(content)
    except ValueError as error:
        raise UserError(str(error)) from error
    depth = 0
    for place, token in enumerate(tokens):
        if place and not depth:
            raise UserError(f"the expression ends before token {place + 1}, {listops.VOCABULARY[token]!r}")
        depth += (listops.VOCABULARY[token] in listops.OPERATORS) - (listops.VOCABULARY[token] == listops.END)
        if depth < 0:
            raise UserError("']' closes nothing")
    if depth:
        raise UserError(f"{depth} of its brackets aren't closed")
    return tokens


def picture(path: str | Path) -> bytes:
    """The pixels of a square picture, row by row; colours become grey as in LRA's CIFAR-10, greys stay as they are."""
    try:
        with PIL.Image.open(path) as image:
            deep = image.mode.startswith(("I", "F"))  # more than 8 bits, which Pillow would cut off at 255
            rgb = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise UserError(f"no picture can be read from it: {error}") from error
    height, width, _ = rgb.shape
    if deep:
        raise UserError("its pixels have more than 8 bits")
    if height != width:
        raise UserError(f"it is {width} × {height} pixels, not a square")
    return grey(rgb.reshape(1, -1, 3).swapaxes(1, 2)).tobytes()
