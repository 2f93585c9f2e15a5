"""Probes: small generated tasks, each of which asks for one ability and little else.

A probe makes sequences of token ids with a label at some positions. Nothing at or before a labelled position's own
token is its answer, and no later token is it either: a model that sees the whole sequence gains nothing unfair.
Compression alone asks for the tokens themselves, of a decoder that sees the last position's features only.

Each function takes (rng, count, length, …) and returns `Sequences`; ValueError for options that don't fit.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

NO_LABEL = -1


class Sequences(NamedTuple):
    """inputs, labels (count, length) int32, labels −1 where nothing is asked.

    guess: the accuracy of the best guess that doesn't do what the probe asks for, as the probe's docstring says.
    """

    inputs: np.ndarray
    labels: np.ndarray
    guess: float


def mqar(
    rng: np.random.Generator, count: int, length: int, *, vocabulary: int, pairs: int, power: float, blanks: bool
) -> Sequences:
    """Multi-query associative recall (Arora et al. 2023, Zoology, arXiv:2312.04927, and its published generator).

    `pairs` of key and value, then each key once more at the even distance 2 g from the pairs' end, g drawn without
    replacement with weight ∝ (g + 1)^(power − 1); its label is the key's value. Keys 1 … V/2 − 1 and values V/2 … V − 1
    don't repeat in a sequence; other positions hold random tokens, keys and values among them, as the generator has by
    default, or with `blanks` token 0, as the configs of the paper's figure say. Guess: any of the values.
    """
    _require(pairs >= 1, f"pairs must be at least 1; got {pairs}")
    room = (length - 2 * pairs) // 2
    _require(length % 2 == 0 and room >= pairs, f"{pairs} pairs and queries don't fit an even length; got {length}")
    keys = _distinct(rng, count, pairs, 1, vocabulary // 2)
    values = _distinct(rng, count, pairs, vocabulary // 2, vocabulary)
    # The largest of logarithmic weights plus Gumbel noise are a draw without replacement (Vieira 2014).
    scores = (power - 1) * np.log(np.arange(1, room + 1)) + rng.gumbel(size=(count, room))
    gaps = np.argsort(-scores, axis=1)[:, :pairs]
    inputs = rng.integers(0, 1 if blanks else vocabulary, (count, length), dtype=np.int32)
    inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
    where = 2 * pairs + 2 * gaps
    np.put_along_axis(inputs, where, keys, axis=1)
    labels = np.full((count, length), NO_LABEL, np.int32)
    np.put_along_axis(labels, where, values, axis=1)
    return Sequences(inputs, labels, 1 / pairs)


def scattered_mqar(rng: np.random.Generator, count: int, length: int, *, vocabulary: int, pairs: int) -> Sequences:
    """MQAR without its layout: pairs and queries stand at random even positions, each query after its pair.

    Position then says nothing of what a token is for, so that no fixed shift finds the pairs. Other positions hold
    token 0. Guess: the latest value before the query, since earlier pairs are likelier to have been asked for.
    """
    _require(pairs >= 1, f"pairs must be at least 1; got {pairs}")
    slots = length // 2
    _require(slots >= 2 * pairs, f"{pairs} pairs and queries don't fit length {length}")
    keys = _distinct(rng, count, pairs, 1, vocabulary // 2)
    values = _distinct(rng, count, pairs, vocabulary // 2, vocabulary)
    chosen = np.argsort(rng.random((count, slots)), axis=1)[:, : 2 * pairs].reshape(count, pairs, 2)
    first, second = chosen.min(axis=2), chosen.max(axis=2)
    inputs, labels = np.zeros((count, length), np.int32), np.full((count, length), NO_LABEL, np.int32)
    np.put_along_axis(inputs, 2 * first, keys, axis=1)
    np.put_along_axis(inputs, 2 * first + 1, values, axis=1)
    np.put_along_axis(inputs, 2 * second, keys, axis=1)
    np.put_along_axis(labels, 2 * second, values, axis=1)
    before = np.where(first[:, None, :] < second[:, :, None], first[:, None, :], -1)  # (count, queries, pairs)
    return Sequences(inputs, labels, float(np.mean(before.argmax(axis=2) == np.arange(pairs))))


def recall(rng: np.random.Generator, count: int, length: int, *, vocabulary: int) -> Sequences:
    """Associative recall (Fu et al. 2023, H3, arXiv:2212.14052, with the inputs of its published generator).

    Pairs of a key 0 … K − 1 and its value K … 2 K − 1 in this sequence, K = (V − 2)/2, keys with replacement; then the
    token V − 1 and one of the keys that occurred, whose value is the last position's label. There every next token is
    trained on, the values of repeated keys among them, and only the last position is tested. Guess: the value that most
    of them have.
    """
    kinds, pairs = (vocabulary - 2) // 2, (length - 2) // 2
    _require(length % 2 == 0 and pairs > 0 and kinds > 0, f"length {length} or vocabulary {vocabulary} is too small")
    value_of = rng.integers(kinds, 2 * kinds, (count, kinds))
    keys = rng.integers(0, kinds, (count, pairs))
    present = np.zeros((count, kinds), bool)
    np.put_along_axis(present, keys, True, axis=1)
    asked = np.where(present, rng.random((count, kinds)), 0).argmax(axis=1)[:, None]
    inputs = np.empty((count, length), np.int32)
    inputs[:, 0 : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, np.take_along_axis(value_of, keys, axis=1)
    inputs[:, -2], inputs[:, -1] = vocabulary - 1, asked[:, 0]
    labels = _last(count, length, np.take_along_axis(value_of, asked, axis=1)[:, 0])
    return Sequences(inputs, labels, _share_of_commonest(np.where(present, value_of, NO_LABEL), kinds, 2 * kinds))


def induction(rng: np.random.Generator, count: int, length: int, *, vocabulary: int) -> Sequences:
    """Induction head (Fu et al. 2023, H3, arXiv:2212.14052, with the inputs of its published generator).

    Random tokens 0 … V − 3 with the token V − 1 once among them and again at the end; the last position's label is
    what followed it the first time. There every next token is trained on. Guess: the commonest token.
    """
    _require(length >= 4 and vocabulary >= 3, f"length {length} or vocabulary {vocabulary} is too small")
    inputs = rng.integers(0, vocabulary - 2, (count, length), dtype=np.int32)
    rows, where = np.arange(count), rng.integers(0, length - 3, count)
    inputs[rows, where] = inputs[:, -1] = vocabulary - 1
    labels = _last(count, length, inputs[rows, where + 1])
    return Sequences(inputs, labels, _share_of_commonest(inputs, 0, vocabulary - 2))


def selective_copying(rng: np.random.Generator, count: int, length: int, *, vocabulary: int, tokens: int) -> Sequences:
    """Selective copying (Gu & Dao 2023, Mamba, arXiv:2312.00752; at the sizes of Poli et al. 2024, MAD, 2403.17844).

    `tokens` random ids 0 … V − 3 stand anywhere among blanks V − 2, the last of them right before the token V − 1; at
    the blanks after that the labels are those ids in their order. MAD shares the blanks out among the gaps, each with
    equal chances, so that its tokens stand nearer to even distances. Guess: the commonest of them.
    """
    room = length - tokens - 1
    _require(room >= tokens > 0, f"{tokens} tokens don't fit length {length}")
    chosen = rng.integers(0, vocabulary - 2, (count, tokens), dtype=np.int32)
    places = np.sort(np.argsort(rng.random((count, room - 1)), axis=1)[:, : tokens - 1], axis=1)
    places = np.concatenate([places, np.full((count, 1), room - 1)], axis=1)
    inputs = np.full((count, length), vocabulary - 2, np.int32)
    np.put_along_axis(inputs, places, chosen, axis=1)
    inputs[:, room] = vocabulary - 1
    labels = np.full((count, length), NO_LABEL, np.int32)
    labels[:, room + 1 :] = chosen
    return Sequences(inputs, labels, _share_of_commonest(chosen, 0, vocabulary - 2))


def copying(rng: np.random.Generator, count: int, length: int, *, vocabulary: int, shortest: int) -> Sequences:
    """Copying (after Jelassi et al. 2024, Repeat After Me, arXiv:2402.01032), without the copy among the inputs.

    n random letters 0 … V − 3, n from `shortest` to (length − 1)/2 with equal chances, the token V − 1, and blanks
    V − 2, of which the first n are labelled with the letters in their order. With one n possible this is a shift by a
    fixed delay; with several the delay is the sequence's own. Guess: the commonest letter.
    """
    longest = (length - 1) // 2
    _require(1 <= shortest <= longest, f"shortest must be 1 to {longest} at length {length}; got {shortest}")
    letters = rng.integers(0, vocabulary - 2, (count, longest), dtype=np.int32)
    n, at = rng.integers(shortest, longest + 1, (count, 1)), np.arange(length)
    padded = np.pad(letters, ((0, 0), (0, length - longest)))
    inputs = np.where(at < n, padded, np.where(at == n, vocabulary - 1, vocabulary - 2)).astype(np.int32)
    copied = np.take_along_axis(padded, np.clip(at - n - 1, 0, length - 1), axis=1)
    labels = np.where((at > n) & (at <= 2 * n), copied, NO_LABEL).astype(np.int32)
    return Sequences(inputs, labels, _share_of_commonest(np.where(at < n, padded, NO_LABEL), 0, vocabulary - 2))


def ngram_lookup(rng: np.random.Generator, count: int, length: int, *, vocabulary: int, n: int) -> Sequences:
    """Look-up by n-gram (after Jelassi et al. 2024, Repeat After Me, arXiv:2402.01032).

    Random letters 0 … V − 2, the token V − 1, and `n` letters in a row that occurred; the last position's label is the
    letter that followed them, where they stand first. Guess: the commonest letter.
    """
    room = length - n - 1
    _require(n >= 1 and room > n, f"n-grams of {n} don't fit length {length}")
    letters = rng.integers(0, vocabulary - 1, (count, room), dtype=np.int32)
    grams = np.lib.stride_tricks.sliding_window_view(letters, n, axis=1)[:, :-1]  # those that something follows
    rows = np.arange(count)
    asked = grams[rows, rng.integers(0, grams.shape[1], count)]
    where = (grams == asked[:, None]).all(axis=2).argmax(axis=1)
    inputs = np.concatenate([letters, np.full((count, 1), vocabulary - 1, np.int32), asked], axis=1)
    labels = _last(count, length, letters[rows, where + n])
    return Sequences(inputs, labels, _share_of_commonest(letters, 0, vocabulary - 1))


def majority(rng: np.random.Generator, count: int, length: int) -> Sequences:
    """Majority (as in the circuits of Zoology's repository): bits, the token 2, and there whether most were 1.

    There it is trained on several lengths at once. Guess: the commoner answer.
    """
    bits = rng.integers(0, 2, (count, length - 1), dtype=np.int32)
    return _of_bits(bits, (2 * bits.sum(axis=1) > length - 1).astype(np.int32))


def parity(rng: np.random.Generator, count: int, length: int) -> Sequences:
    """Parity (as in the circuits of Zoology's repository): bits, the token 2, and there whether an odd number were 1.

    There it is trained on several lengths at once. Guess: the commoner answer.
    """
    bits = rng.integers(0, 2, (count, length - 1), dtype=np.int32)
    return _of_bits(bits, bits.sum(axis=1) % 2)


def memorization(rng: np.random.Generator, count: int, length: int, *, vocabulary: int) -> Sequences:
    """Memorisation (Poli et al. 2024, MAD, arXiv:2403.17844): facts that no sequence states, to be kept in weights.

    Keys 0 … V/2 − 1 have values V/2 … V − 2, the same in all sequences of every split, drawn with replacement (there
    each key has its own); at the token V − 1 after each key the label is its value. It asks for no mixing beyond the
    neighbour. Guess: the value of most keys.
    """
    _require(length % 2 == 0, f"length must be even; got {length}")
    half = vocabulary // 2
    value_of = np.random.default_rng(12345).integers(half, vocabulary - 1, half)
    keys = rng.integers(0, half, (count, length // 2))
    inputs, labels = (np.full((count, length), fill, np.int32) for fill in (vocabulary - 1, NO_LABEL))
    inputs[:, ::2], labels[:, 1::2] = keys, value_of[keys]
    return Sequences(inputs, labels, float(np.bincount(value_of).max() / half))


def compression(rng: np.random.Generator, count: int, length: int, *, vocabulary: int) -> Sequences:
    """Compression (Poli et al. 2024, MAD, arXiv:2403.17844): all of a sequence in one position's features.

    Random tokens 0 … V − 2, and at the end the token V − 1, from whose features alone a decoder is to tell each of them
    (`Spec.through_last`); each token is its own label, and that at the end, which there counts too, has none. Guess:
    the commonest token of the sequence.
    """
    _require(length >= 2 and vocabulary >= 2, f"length {length} or vocabulary {vocabulary} is too small")
    tokens = rng.integers(0, vocabulary - 1, (count, length - 1), dtype=np.int32)
    ends = np.full((count, 1), vocabulary - 1, np.int32), np.full((count, 1), NO_LABEL, np.int32)
    inputs, labels = (np.concatenate([tokens, end], axis=1) for end in ends)
    return Sequences(inputs, labels, _share_of_commonest(tokens, 0, vocabulary - 1))


PROBES: dict[str, Callable[..., Sequences]] = {
    probe.__name__: probe
    for probe in (
        *(mqar, scattered_mqar, recall, induction, selective_copying, copying, ngram_lookup),
        *(majority, parity, memorization, compression),
    )
}


def answers(name: str, length: int, options: Mapping[str, Any]) -> int:
    """The most positions of a sequence of that length that a probe labels; KeyError for an option that is missing."""
    match name:
        case "mqar" | "scattered_mqar":
            return options["pairs"]
        case "selective_copying":
            return options["tokens"]
        case "copying":
            return (length - 1) // 2
        case "memorization":
            return length // 2
        case "compression":
            return length - 1
    return 1


def _require(fits: Any, message: str) -> None:
    if not fits:
        raise ValueError(message)


def _distinct(rng: np.random.Generator, count: int, size: int, low: int, high: int) -> np.ndarray:
    """(count, size) ids of low … high − 1, none twice in a row: the first places of a shuffle (Fisher & Yates)."""
    _require(size <= high - low, f"{size} different ids don't fit {low} to {high - 1}")
    picked = np.empty((count, size), np.int32)
    for start in range(0, count, 1024):  # tables of ids, for all rows at once, would be large
        rows = np.arange(min(1024, count - start))
        ids = np.tile(np.arange(low, high, dtype=np.int32), (len(rows), 1))
        for i in range(size):
            other = rng.integers(i, high - low, len(rows))
            ids[rows, i], ids[rows, other] = ids[rows, other], ids[rows, i].copy()
        picked[start : start + 1024] = ids[:, :size]
    return picked


def _last(count: int, length: int, answers: np.ndarray) -> np.ndarray:
    labels = np.full((count, length), NO_LABEL, np.int32)
    labels[:, -1] = answers
    return labels


def _of_bits(bits: np.ndarray, answers: np.ndarray) -> Sequences:
    inputs = np.concatenate([bits, np.full((len(bits), 1), 2, np.int32)], axis=1)
    ones = float(answers.mean())
    return Sequences(inputs, _last(len(inputs), inputs.shape[1], answers), max(ones, 1 - ones))


def _share_of_commonest(tokens: np.ndarray, low: int, high: int) -> float:
    """Mean over rows of the share that the commonest of the tokens low … high − 1 has among them."""
    counts = np.stack([(tokens == token).sum(axis=1) for token in range(low, high)])
    return float(np.mean(counts.max(axis=0) / counts.sum(axis=0)))
