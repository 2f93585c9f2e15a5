"""How strongly pairs of tokens interact in a model of ListOps, and how far its receptive field reaches.

Two tokens of an expression are replaced by others of their kind, a digit by a digit, an operator by an operator, so
that it stays one. With f₀₀ the scores before, f₁₀ and f₀₁ after one replacement and f₁₁ after both, their interaction
is the mixed second difference f₁₁ − f₁₀ − f₀₁ + f₀₀, their effects are f₁₀ − f₀₀ and f₀₁ − f₀₀.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gconv.data.dataset import Split
from gconv.data.generators import listops
from gconv.data.pipeline import evaluation_batches
from gconv.models.classifier import Classifier

KINDS = (range(1, 1 + len(listops.OPERATORS)), range(len(listops.VOCABULARY) - 10, len(listops.VOCABULARY)))
BATCH = 256

Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]  # inputs (n, length), lengths (n,) → (n, classes)


class Pairs(NamedTuple):
    """Expressions in which pairs of tokens are replaced."""

    inputs: np.ndarray  # (4, pairs, length): as they were, with the first replaced, the second, and both
    lengths: np.ndarray  # (pairs,)


def bins(length: int) -> list[tuple[int, int]]:
    """Distances within a sequence, doubling: (1, 1), (2, 3), (4, 7), …, as (smallest, largest)."""
    return [(low, min(2 * low, length) - 1) for low in (2**i for i in range(length.bit_length())) if low < length]


def draw_pairs(split: Split, low: int, high: int, count: int, rng: np.random.Generator) -> Pairs:
    """Draws pairs of replaceable tokens that are low to high apart, of expressions of the split, each uniformly.

    ValueError if the split has hardly any.
    """
    found: list[tuple[np.ndarray, int]] = []
    for _ in range(1000 * count):
        if len(found) == count:
            break
        row = rng.integers(len(split.labels))
        i = rng.integers(split.lengths[row])
        j = i + rng.integers(low, high + 1)
        if j >= split.lengths[row]:
            continue
        old = split.inputs[row]
        first, second = _another(old[i], rng), _another(old[j], rng)
        if first is None or second is None:
            continue
        four = np.stack([old] * 4)
        four[(1, 3), i], four[(2, 3), j] = first, second
        found.append((four, split.lengths[row]))
    if len(found) < count:
        raise ValueError(f"of pairs {low} to {high} apart only {len(found)} were found, not {count}")
    return Pairs(np.stack([four for four, _ in found], axis=1), np.array([n for _, n in found], np.int32))


def _another(token: int, rng: np.random.Generator) -> int | None:
    """Another token of its kind; None for a closing bracket."""
    for kind in KINDS:
        if token in kind:
            return int(rng.choice([other for other in kind if other != token]))
    return None


def interaction(pairs: Pairs, scores: Scores) -> float:
    """The pairs' interaction beside their effects, both as root mean squares over pairs and classes.

    0 for scores that are a sum of functions of one token each; √2 if the four scores of a pair have nothing to do with
    each other. What is added to all scores of an expression alike doesn't count, as in a softmax.
    """
    f = np.stack([scores(inputs, pairs.lengths) for inputs in pairs.inputs]).astype(np.float64)
    f -= f.mean(axis=-1, keepdims=True)
    mixed = np.mean(np.square(f[3] - f[1] - f[2] + f[0]))
    effects = np.mean(np.square(f[1] - f[0]) + np.square(f[2] - f[0])) / 2
    return float(np.sqrt(mixed / effects)) if effects else 0.0


def true_scores(inputs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """ListOps itself: 1 for the value of each expression and 0 for the other nine."""
    return np.eye(10)[[value(tokens[:n].tobytes()) for tokens, n in zip(inputs, lengths, strict=True)]]


def value(tokens: bytes) -> int:
    """The value 0..9 of an expression of token ids."""
    stack: list[tuple[str, list[int]]] = [("", [])]
    for token in tokens:
        word = listops.VOCABULARY[token]
        if word in listops.OPERATORS:
            stack.append((word, []))
        elif word == listops.END:
            operator, values = stack.pop()
            stack[-1][1].append(listops.apply(operator, values))
        else:
            stack[-1][1].append(int(word))
    return stack[0][1][0]


def scores_of(model: Classifier) -> Scores:
    """The class scores of a model, batch by batch."""
    graphdef, params = nnx.split(model)

    def scores(inputs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        split = Split(inputs, lengths, np.zeros(len(lengths), np.int32))
        batches = evaluation_batches(split, BATCH)
        parts = [np.asarray(_scores(graphdef, params, batch.inputs, batch.lengths)) for batch in batches]
        return np.concatenate(parts)[: len(lengths)]

    return scores


@functools.partial(jax.jit, static_argnums=0)
def _scores(graphdef: nnx.GraphDef, params: Any, inputs: Any, lengths: Any) -> jax.Array:
    return nnx.merge(graphdef, params)(inputs, lengths)


def receptive_field(model: Classifier, split: Split, count: int, rng: np.random.Generator) -> np.ndarray:
    """How a feature of the last layer depends on the tokens around it, by their distance: (length,), 1 at distance 0.

    The effective receptive field of Luo et al. 2016 (arXiv:1701.04128): the root mean square of the derivative of the
    last layer's features at a position, before pooling, by the embedding of a token at some distance to either side,
    over `count` random expressions, positions and directions. nan where no expression is so long.
    """
    graphdef, params = nnx.split(model)
    length = split.inputs.shape[1]
    rows = rng.integers(len(split.labels), size=count)
    places = rng.integers(split.lengths[rows])
    directions = rng.standard_normal((count, model.features)).astype(np.float32)
    squares = np.asarray(_sensitivities(graphdef, params, split.inputs[rows], split.lengths[rows], places, directions))
    distance = np.abs(np.arange(length) - places[:, None])
    real = np.arange(length) < split.lengths[rows, None]
    total = np.bincount(distance[real], squares[real], minlength=length)
    number = np.bincount(distance[real], minlength=length)
    means = np.divide(total, number, out=np.full(length, np.nan), where=number > 0)
    return np.sqrt(means / means[0])


@functools.partial(jax.jit, static_argnums=0)
def _sensitivities(
    graphdef: nnx.GraphDef, params: Any, inputs: Any, lengths: Any, places: Any, directions: Any
) -> jax.Array:
    """The squared gradient of the feature in a direction at a place by each token's embedding: (batch, length)."""
    model = nnx.merge(graphdef, params)
    mask = jnp.arange(inputs.shape[1]) < lengths[:, None]

    def feature(embedded: jax.Array) -> jax.Array:
        features = last_features(model, embedded, mask)
        return jnp.sum(features[jnp.arange(len(places)), places] * directions)

    embedded = model.embed(jnp.asarray(inputs, jnp.int32))
    return jnp.sum(jnp.square(jax.grad(feature)(embedded)), axis=-1)


def last_features(model: Classifier, embedded: jax.Array, mask: jax.Array) -> jax.Array:
    """What the model pools: embedded (batch, length, features), mask (batch, length) bool → like embedded."""
    x, layout = model.tower(embedded, mask, [None] * len(model.blocks))
    return x if layout == "blc" else jnp.swapaxes(x, 1, 2)
