"""A classifier of sequences, of pairs of them or of positions: embedding, a stack of blocks, pooling, head."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from gconv.models.block import Block
from gconv.models.dropout import drop_out
from gconv.models.linear import NORMS, LayerNorm, Linear
from gconv.ops import cost


class Classifier(nnx.Module):
    """Maps sequences of tokens, or pairs of them, to class scores. See `__call__`.

    The two sequences of a pair pass the same tower, and their pooled features u, v meet in the head of Long Range
    Arena's Retrieval (Tay et al. 2021): [u, v, u − v, u ⊙ v] → linear → ReLU → linear.

    Args:
      mixer: builds a token mixer: any callable with the signature of those in `gconv.models.mixers`.
      mixer_options: its keyword options.
      interleave: {"every", "mixer", "mixer_options"}: layers every, 2 · every, … have this mixer instead; every = 0
        for none.
      length: the number of positions; shorter sequences are padded to it by the caller.
      classes: the number of scores.
      documents: sequences of an example, 1 or 2.
      answers: if it isn't 0, every position has scores of its own, in place of the sequence, and training asks for them
        at that many positions of an example at most.
      through_last: whether those are decoded from the last real token's features alone. See `Decoder`.
      vocabulary: the number of token ids, or 0 for pixels: intensities 0..255, taken as numbers in [−1, 1].
      layers, features: the stack's depth and width.
      mlp_ratio: hidden units of each block's perceptron, in multiples of features; 0 for none.
      activation: of the perceptron, "relu", "gelu", "silu" or "identity".
      norm: "layer" or "batch".
      norm_first: pre-norm blocks with a norm before pooling, otherwise post-norm.
      positions: "none", or added to the embeddings "sinusoidal" (Vaswani et al. 2017, section 3.5) or "learnt" ones.
      dropout: where positions were added to embeddings (Vaswani et al. 2017, section 5.4), in the mixer and after each
        residual branch.
      tied: scores are products with the tokens' embeddings (Press & Wolf 2017, arXiv:1608.05859), which start normal
        with standard deviation .02, as do learnt positions; otherwise both with 1. With sinusoidal positions either
        way with 1/√features.
      denoise: the share of tokens that `denoise` corrupts; if it isn't 0 the model has a head for it, and an embedding
        of masked tokens.
      dtype: of activations and matrix multiplies; parameters and scores are float32, and FFTs but by `method="fused"`.
      split: called as split(x, layout) on what enters and what leaves each block; says how devices share it.
    """

    def __init__(
        self,
        mixer: Any,
        mixer_options: Mapping[str, Any],
        *,
        interleave: Mapping[str, Any],
        length: int,
        classes: int,
        vocabulary: int,
        documents: int,
        answers: int = 0,
        through_last: bool = False,
        layers: int,
        features: int,
        mlp_ratio: float,
        activation: str,
        norm: str,
        norm_first: bool,
        positions: str,
        dropout: float,
        tied: bool = False,
        denoise: float = 0.0,
        dtype: Any,
        rngs: nnx.Rngs,
        split: Callable[[jax.Array, str], jax.Array] = lambda x, layout: x,
    ):
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")
        if positions not in ("none", "sinusoidal", "learnt"):
            raise ValueError(f"positions must be none, sinusoidal or learnt; got {positions!r}")
        if denoise and (not vocabulary or answers):
            raise ValueError(
                "denoise is for sequences of tokens with one label: not for pixels, nor a label a position"
            )
        self.length, self.features, self.vocabulary, self.classes = length, features, vocabulary, classes
        if tied and not (answers and vocabulary == classes):
            raise ValueError("tied is for models that tell tokens, at each position")
        self.answers, self.sinusoidal = answers, positions == "sinusoidal"
        self.dtype, self.split = dtype, split
        deviation = 0.02 if tied else 1.0
        if vocabulary:
            init = nnx.initializers.normal(1.0 / np.sqrt(features) if self.sinusoidal else deviation)
            ids = vocabulary + bool(denoise)  # the last one stands for a token that is masked
            self.embed: Any = nnx.Embed(ids, features, dtype=dtype, embedding_init=init, rngs=rngs)
        else:
            self.embed = Linear(1, features, layout="blc", axes=("intensity", "embed"), dtype=dtype, rngs=rngs)
        learnt = deviation * jax.random.normal(rngs.params(), (length, features)) if positions == "learnt" else None
        self.positions = None if learnt is None else nnx.Param(learnt)
        self.dropout = 0.0 if positions == "none" else dropout

        hidden = int(mlp_ratio * features)
        if mlp_ratio and not hidden:
            raise ValueError(f"mlp_ratio must be 0 or give a hidden unit; got {mlp_ratio} of {features} features")
        if interleave["every"] > layers:
            raise ValueError(
                f"interleave.every must be at most the number of layers, {layers}; got {interleave['every']}"
            )

        def mixer_of(layer: int) -> Any:
            other = interleave["every"] and layer % interleave["every"] == 0
            build, options = (interleave["mixer"], interleave["mixer_options"]) if other else (mixer, mixer_options)
            return build(features, length, **options, dropout=dropout, dtype=dtype, rngs=rngs)

        self.blocks = nnx.List(
            Block(
                mixer_of(layer),
                features,
                mlp_features=hidden,
                activation=activation,
                norm=norm,
                norm_first=norm_first,
                dropout=dropout,
                dtype=dtype,
                rngs=rngs,
            )
            for layer in range(1, layers + 1)
        )
        self.norm = NORMS[norm](features, layout=self.blocks[-1].layout, dtype=dtype) if norm_first else None
        self.pairs = documents == 2
        self.compare = nnx.Linear(4 * features, features, rngs=rngs) if self.pairs else None
        self.decoder = Decoder(features, rngs=rngs) if through_last else None
        self.head: Any = None if tied else nnx.Linear(features, classes, rngs=rngs)
        self.corrupted_share = denoise
        self.denoiser = nnx.Linear(features, vocabulary, dtype=dtype, rngs=rngs) if denoise else None

    def __call__(
        self, inputs: jax.Array, lengths: jax.Array, *, at: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """Class scores (batch, classes) float32, or of a model with answers (batch, length, classes).

        inputs (batch, length) integers, lengths (batch,) the number of real tokens of each, at its beginning; for pairs
        (batch, 2, length) and (batch, 2). A token's value never marks padding: a black pixel is a pixel. at (batch, n)
        are the positions whose scores are wanted, all by default: (batch, n, classes), in that order; a model without
        answers has none. ValueError if inputs are longer than the model.
        """
        x, layout, mask = self._encode(_sequences(inputs), lengths.reshape(-1), key)
        if self.answers:
            x = _as_blc(x, layout)
            if self.decoder is not None:
                x = self.decoder(x[jnp.arange(len(x)), lengths - 1], inputs.shape[1])
            x = x if at is None else jnp.take_along_axis(x, at[..., None], axis=1)
            return self.head(x) if self.head is not None else x @ self.embed.embedding[...].T
        return self._scores(mean_of_real_tokens(x, mask, layout))

    def denoise(self, inputs: jax.Array, lengths: jax.Array, *, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Class scores of corrupted sequences, (batch, classes), and the loss of reconstructing their tokens, (batch,).

        Both float32; the loss is the cross-entropy in nats, averaged over all real tokens of an example, corrupted or
        not. Miralles-González et al. 2025 (arXiv:2501.14850) train attention on texts by its sum with that of the
        label: a share of the tokens is masked, but a third of that is replaced at random (Devlin et al. 2019 replace a
        tenth).
        ValueError if that share is 0, or if inputs are longer than the model.
        """
        if self.denoiser is None:
            raise ValueError("this model doesn't denoise: its share is 0")
        corruption, dropout = jax.random.split(key)
        targets = _sequences(inputs).astype(jnp.int32)
        seen = corrupt(targets, self.corrupted_share, self.vocabulary, corruption)
        x, layout, mask = self._encode(seen, lengths.reshape(-1), dropout)
        scores = self.denoiser(_as_blc(x, layout)).astype(jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, targets)
        total, tokens = jnp.sum(losses * mask, axis=1), jnp.sum(mask, axis=1)  # of each sequence
        of_example = [a.reshape(len(inputs), -1).sum(axis=1) for a in (total, tokens)]
        return self._scores(mean_of_real_tokens(x, mask, layout)), of_example[0] / jnp.maximum(of_example[1], 1)

    def _scores(self, pooled: jax.Array) -> jax.Array:
        """(sequences, features) → (batch, classes), of pairs by what sets them apart."""
        if self.compare is None:
            return self.head(pooled)
        u, v = jnp.moveaxis(pooled.reshape(-1, 2, self.features), 1, 0)
        return self.head(jax.nn.relu(self.compare(jnp.concatenate([u, v, u - v, u * v], axis=-1))))

    def _encode(self, inputs: jax.Array, lengths: jax.Array, key: jax.Array | None) -> tuple[jax.Array, str, jax.Array]:
        """(sequences, length) → float32 features of every position, their layout, and which positions are real."""
        if inputs.shape[-1] > self.length:
            raise ValueError(f"inputs have length {inputs.shape[-1]}; the model's is {self.length}")
        keys = [None] * (len(self.blocks) + 1) if key is None else jax.random.split(key, len(self.blocks) + 1)
        mask = jnp.arange(inputs.shape[1]) < lengths[:, None]
        x = drop_out(self._embed(inputs), self.dropout, keys[-1])
        return *self.tower(x, mask, keys), mask

    def tower(self, x: jax.Array, mask: jax.Array, keys: Any) -> tuple[jax.Array, str]:
        """What comes after the embedding and before pooling: the blocks, and the norm of a pre-norm model.

        x (sequences, length, features), mask (sequences, length) bool, a key or None for each block → float32 of the
        last block's layout, and that layout.
        """
        layout = "blc"
        x = self.split(x, layout)
        for block, key in zip(self.blocks, keys, strict=False):
            if block.layout != layout:
                x, layout = jnp.swapaxes(x, 1, 2), block.layout
            x = self.split(block(x, mask, key=key), layout)
        if self.norm is not None:
            x = self.norm(x, mask, keys[-1] is not None)
        return x.astype(jnp.float32), layout

    def _embed(self, inputs: jax.Array) -> jax.Array:
        if not self.vocabulary:
            x = self.embed(inputs[..., None].astype(jnp.float32) / 127.5 - 1)
        else:
            x = look_up(self.embed.embedding[...], inputs, self.dtype)
            if self.sinusoidal:
                x = x * np.sqrt(self.features).astype(x.dtype)
        if self.sinusoidal:
            x = x + sinusoids(inputs.shape[1], self.features, x.dtype)
        if self.positions is not None:
            x = x + self.positions[: inputs.shape[1]].astype(x.dtype)
        return x

    def flops(self, length: int) -> cost.Flops:
        """Of one example: both sequences of a pair, and scores of every position, as a call has them by default."""
        embed = cost.NONE if self.vocabulary else cost.dense(length, 1, self.features)
        tower = sum((block.flops(length) for block in self.blocks), embed)
        head = cost.dense(length if self.answers else 1, self.features, self.classes)
        if self.decoder is not None:
            head += cost.dense(length, self.features, 2 * self.features)
        if self.compare is None:
            return tower + head
        return tower + tower + cost.dense(1, 4 * self.features, self.features) + head


class Decoder(nnx.Module):
    """Every position's features from those of one, as the compression probe of MAD (Poli et al. 2024) decodes them.

    The features plus each position's sinusoids → norm, linear, GELU → norm, linear, GELU → norm.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.norms = nnx.List(LayerNorm(features, layout="blc", dtype=jnp.float32) for _ in range(3))
        self.layers = nnx.List(nnx.Linear(features, features, rngs=rngs) for _ in range(2))

    def __call__(self, x: jax.Array, length: int) -> jax.Array:
        """x (batch, features) float32 → (batch, length, features)."""
        x = x[:, None] + sinusoids(length, x.shape[1], x.dtype)
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x = jax.nn.gelu(layer(norm(x)))
        return self.norms[-1](x)


def _sequences(inputs: jax.Array) -> jax.Array:
    """(batch, length), or of pairs (batch, 2, length), → (sequences, length)."""
    return inputs.reshape(-1, inputs.shape[-1])


def _as_blc(x: jax.Array, layout: str) -> jax.Array:
    return x if layout == "blc" else jnp.swapaxes(x, 1, 2)


def corrupt(tokens: jax.Array, share: float, vocabulary: int, key: jax.Array) -> jax.Array:
    """Tokens of which a share is masked, by the id `vocabulary`, or, a third of it, replaced by any token at random."""
    which, how, other = jax.random.split(key, 3)
    drawn = jax.random.randint(other, tokens.shape, 0, vocabulary, tokens.dtype)
    noise = jnp.where(jax.random.bernoulli(how, 1 / 3, tokens.shape), drawn, vocabulary)
    return jnp.where(jax.random.bernoulli(which, share, tokens.shape), noise, tokens)


def look_up(table: jax.Array, ids: jax.Array, dtype: Any) -> jax.Array:
    """Rows of a table (vocabulary, features) float32, at ids (…) → (…, features) of a dtype.

    A row's gradient is summed in float32: thousands of tokens may share it, of which bfloat16 would lose a tenth. On
    accelerators by a product with ones and zeros, in place of as many additions to one row: with it and the fused
    convolution the step of ListOps' full model came from 50 ms to 8 (experiments/records/benchmark/h100/full.md).
    """
    if jax.default_backend() == "cpu":
        return table[ids.astype(jnp.int32)].astype(dtype)
    return jnp.matmul(jax.nn.one_hot(ids, len(table), dtype=dtype), table.astype(dtype), precision="highest")


def mean_of_real_tokens(x: jax.Array, mask: jax.Array, layout: str) -> jax.Array:
    """Mean over the positions where mask is True.

    x (batch, length, features), or (batch, features, length) for layout "bcl"; mask (batch, length)
    → (batch, features).
    """
    total = jnp.einsum("blc,bl->bc" if layout == "blc" else "bcl,bl->bc", x, mask.astype(x.dtype))
    return total / jnp.maximum(jnp.sum(mask, axis=1), 1)[:, None]


def sinusoids(length: int, features: int, dtype: Any) -> jax.Array:
    """Positional encoding (Vaswani et al. 2017, section 3.5), (length, features): sine in even columns, else cosine."""
    column = np.arange(features)
    angles = np.arange(length)[:, None] / 10000 ** ((column - column % 2) / features)
    return jnp.asarray(np.where(column % 2, np.cos(angles), np.sin(angles)), dtype)
