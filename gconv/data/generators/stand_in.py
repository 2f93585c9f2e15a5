"""Small made-up data of the same form as a real set, for `smoke` runs where the real one isn't prepared.

They let a newcomer and the tests run every path without a download. No accuracy on them means anything.
"""

import numpy as np

Example = tuple[tuple[bytes, ...], int]  # the sequences, one or a pair, and the label


def text(examples: int, seed: int) -> list[Example]:
    """Bytes of lower-case words in two classes, which favour different words."""
    words = _words()
    rng = np.random.default_rng([seed, 1])
    made: list[Example] = []
    for label in rng.integers(0, 2, examples):
        favoured = np.where(np.arange(40) % 2 == label, 4.0, 1.0)
        chosen = rng.choice(40, rng.integers(10, 60), p=favoured / favoured.sum())
        made.append(((b" ".join(words[i] for i in chosen),), int(label)))
    return made


def pairs(examples: int, seed: int) -> list[Example]:
    """Pairs of such texts, of label 1 if they favour the same quarter of the words."""
    words = _words()
    rng = np.random.default_rng([seed, 3])
    made: list[Example] = []
    for label in rng.integers(0, 2, examples):
        topics = rng.integers(0, 4) + np.array([0, 0 if label else rng.integers(1, 4)])
        chances = [np.where(np.arange(40) % 4 == topic % 4, 8.0, 1.0) for topic in topics]
        texts = [rng.choice(40, rng.integers(10, 60), p=chance / chance.sum()) for chance in chances]
        made.append((tuple(b" ".join(words[i] for i in chosen) for chosen in texts), int(label)))
    return made


def _words() -> list[bytes]:
    """Forty of them, the same for every seed."""
    letters, spelling = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8), np.random.default_rng(0)
    return [spelling.choice(letters, spelling.integers(2, 8)).tobytes() for _ in range(40)]


def image(examples: int, seed: int) -> list[Example]:
    """32 × 32 grey gratings in noise, ten classes of five directions and two widths."""
    rng = np.random.default_rng([seed, 2])
    y, x = np.mgrid[:32, :32]
    made: list[Example] = []
    for label in rng.integers(0, 10, examples):
        angle, wavelength = np.pi * (label % 5) / 5, 4 + 4 * (label // 5)
        wave = np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / wavelength + rng.uniform(0, 2 * np.pi))
        pixels = 127.5 + 60 * wave + 30 * rng.standard_normal((32, 32))
        made.append(((np.clip(pixels, 0, 255).astype(np.uint8).tobytes(),), int(label)))
    return made
