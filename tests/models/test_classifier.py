import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from gconv.models import block
from gconv.models import classifier as classifier_module
from gconv.models.block import Block
from gconv.models.classifier import Classifier, corrupt, look_up, mean_of_real_tokens, sinusoids
from gconv.models.linear import Linear
from gconv.models.mixers import (
    S5,
    Attention,
    GlobalConv,
    PlainGlobalConv,
    PointwiseGlobalConv,
    convolution,
    state_space,
)

GCONV = (PointwiseGlobalConv, {"boundary": "bidirectional", "kernel_options": {"scale": 0.1, "dropout": 0.1}})
ATTENTION = (Attention, {"heads": 2, "rotary": True})


def classifier(mixer, options, **changes):
    settings = {
        "interleave": {"every": 0},
        "length": 16,
        "classes": 3,
        "vocabulary": 11,
        "documents": 1,
        "layers": 2,
        "features": 8,
        "mlp_ratio": 2.0,
        "activation": "gelu",
        "norm": "layer",
        "norm_first": True,
        "positions": "none",
        "dropout": 0.1,
        "dtype": jnp.float32,
    }
    return Classifier(mixer, options, **{**settings, **changes}, rngs=nnx.Rngs(0))


def batch(vocabulary=11, length=16):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(0, vocabulary, (4, length)), jnp.uint8), jnp.array([16, 9, 1, 5])


@pytest.mark.parametrize("norm, activation", [("batch", "identity"), ("layer", "identity"), ("batch", "gelu")])
def test_without_a_nonlinearity_and_with_batch_norm_scores_are_a_sum_over_tokens(norm, activation):
    options = {"boundary": "bidirectional", "kernel_options": {"scale": 0.3}, "activation": activation}
    model = classifier(PlainGlobalConv, options, norm=norm, mlp_ratio=0.0)
    a = jnp.full((1, 16), 3, jnp.uint8)
    b, c = a.at[0, 2].set(7), a.at[0, 9].set(5)
    scores = model(jnp.concatenate([a, b, c, b.at[0, 9].set(5)]), jnp.full(4, 16))
    interaction, effect = scores[3] - scores[1] - scores[2] + scores[0], scores[1] - scores[0]
    ratio = float(jnp.linalg.norm(interaction) / jnp.linalg.norm(effect))
    assert ratio < 1e-5 if (norm, activation) == ("batch", "identity") else ratio > 1e-2


@pytest.mark.parametrize("mixer", [GCONV, ATTENTION])
@pytest.mark.parametrize("vocabulary", [11, 0])
def test_what_stands_in_the_padding_has_no_influence(mixer, vocabulary):
    model = classifier(*mixer, vocabulary=vocabulary)
    inputs, lengths = batch()
    padding = jnp.arange(16) >= lengths[:, None]
    scores = model(inputs, lengths)
    assert scores.shape == (4, 3) and scores.dtype == jnp.float32
    np.testing.assert_allclose(scores, model(jnp.where(padding, 7, inputs), lengths), atol=1e-5)
    shorter = model(inputs[1:2, :9], lengths[1:2])
    np.testing.assert_allclose(scores[1:2], shorter, atol=1e-5)


def test_a_black_pixel_is_a_pixel():
    model = classifier(*GCONV, vocabulary=0)
    inputs, lengths = batch(256)
    black = inputs.at[0, 8:].set(0)
    assert np.abs(model(black, lengths)[0] - model(black, lengths.at[0].set(8))[0]).max() > 1e-3


def test_dropout_needs_a_key_and_follows_it():
    model, (inputs, lengths) = classifier(*GCONV), batch()
    a, b, c = (model(inputs, lengths, key=jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c) and not np.allclose(a, model(inputs, lengths))


@pytest.mark.parametrize("mixer", [GCONV, ATTENTION])
def test_a_branch_is_dropped_once(mixer):
    """The share of zeros that a post-norm-free branch adds to the residual stream is the rate, not more."""
    model = classifier(*mixer, dropout=0.5, layers=1, mlp_ratio=0.0)
    x = jax.random.normal(jax.random.key(0), (8, 16, 8) if model.blocks[0].layout == "blc" else (8, 8, 16))
    added = model.blocks[0](x, None, key=jax.random.key(1)) - x
    assert np.mean(added == 0) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    "mixer, within",
    [(GCONV, 1), (ATTENTION, 0), ((PlainGlobalConv, {"activation": "gelu"}), 1), ((S5, {"states": 4, "blocks": 1}), 1)],
)
def test_dropout_acts_after_each_branch_in_the_mixer_and_on_added_positions(mixer, within, monkeypatch):
    rates = []

    def counted(x, rate, key):
        rates.append(0.0 if key is None else rate)
        return x

    for module in (block, classifier_module, convolution, state_space):
        monkeypatch.setattr(module, "drop_out", counted)
    for positions in ("sinusoidal", "none"):
        rates.clear()
        classifier(*mixer, layers=1, dropout=0.25, positions=positions)(*batch(), key=jax.random.key(0))
        assert rates.count(0.25) == (positions != "none") + within + 2
        rates.clear()
        classifier(*mixer, layers=1, dropout=0.25, positions=positions)(*batch())
        assert not any(rates)


def test_the_projects_own_layer_is_a_mixer_like_the_others():
    model = classifier(GlobalConv, {"boundary": "circular"})
    assert model(*batch()).shape == (4, 3)


@pytest.mark.parametrize("mixer", [GCONV, ATTENTION])
def test_pairs_pass_one_tower_and_meet_in_the_head(mixer):
    """Each sequence's features are those of the classifier of single sequences, compared as the formula says."""
    model = classifier(*mixer, documents=2)
    inputs, lengths = batch()
    pairs, pair_lengths = jnp.stack([inputs, inputs[::-1]], 1), jnp.stack([lengths, lengths[::-1]], 1)
    scores = model(pairs, pair_lengths)
    x, layout, mask = model._encode(inputs, lengths, None)
    u = mean_of_real_tokens(x, mask, layout)
    v = u[::-1]
    hidden = jnp.concatenate([u, v, u - v, u * v], 1) @ model.compare.kernel[...] + model.compare.bias[...]
    np.testing.assert_allclose(scores, model.head(jnp.maximum(hidden, 0)), atol=1e-5)
    assert not np.allclose(scores, model(pairs[:, ::-1], pair_lengths[:, ::-1]))  # the head knows first from second
    assert model.flops(16).fft > 2 * classifier(*mixer).flops(16).fft


def test_corruption_masks_two_thirds_of_its_share_and_replaces_a_third():
    tokens = jnp.full((100, 400), 3, jnp.int32)
    seen = np.asarray(corrupt(tokens, 0.3, 11, jax.random.key(0)))
    assert (seen == 11).mean() == pytest.approx(0.2, abs=0.01)
    assert np.isin(seen, range(11)).sum() + (seen == 11).sum() == seen.size
    of_each = [(seen == token).mean() for token in range(11) if token != 3]
    assert of_each == pytest.approx([0.1 / 11] * 10, abs=0.002)
    assert (corrupt(tokens, 0.0, 11, jax.random.key(0)) == tokens).all()


@pytest.mark.parametrize("mixer", [(GCONV[0], {"boundary": "bidirectional"}), ATTENTION])
@pytest.mark.parametrize("documents", [1, 2])
def test_denoising_tells_the_tokens_before_they_were_corrupted(mixer, documents, monkeypatch):
    """Scores are those of what is seen; the loss is the mean over an example's real tokens of what they were."""
    model = classifier(*mixer, documents=documents, denoise=0.5, dropout=0.0)
    inputs, lengths = batch()
    if documents == 2:
        inputs, lengths = jnp.stack([inputs, inputs[::-1]], 1), jnp.stack([lengths, lengths[::-1]], 1)
    seen = corrupt(inputs.reshape(-1, 16).astype(jnp.int32), 0.5, 11, jax.random.key(1))

    def corrupted(tokens, share, vocabulary, key):
        assert (tokens == inputs.reshape(-1, 16)).all() and (share, vocabulary) == (0.5, 11)
        return seen

    monkeypatch.setattr(classifier_module, "corrupt", corrupted)
    scores, losses = model.denoise(inputs, lengths, key=jax.random.key(2))
    x, layout, _ = model._encode(seen, lengths.reshape(-1), None)
    told = jax.nn.log_softmax(model.denoiser(x if layout == "blc" else jnp.swapaxes(x, 1, 2)))
    of_tokens = np.take_along_axis(np.asarray(told), np.asarray(inputs.reshape(-1, 16, 1), int), -1)[..., 0]
    for example in range(4):
        rows = range(example * documents, (example + 1) * documents)
        real = np.concatenate([of_tokens[row, : int(lengths.reshape(-1)[row])] for row in rows])
        assert losses[example] == pytest.approx(-real.mean(), rel=1e-4)
    np.testing.assert_allclose(scores, model(seen.reshape(inputs.shape), lengths), atol=1e-5)


@pytest.mark.parametrize("changes", [{"vocabulary": 0}, {"answers": 1}])
def test_what_has_no_tokens_or_no_label_of_its_own_is_not_denoised(changes):
    with pytest.raises(ValueError, match="denoise is for sequences of tokens with one label"):
        classifier(*ATTENTION, denoise=0.3, **changes)
    with pytest.raises(ValueError, match="this model doesn't denoise"):
        classifier(*ATTENTION).denoise(*batch(), key=jax.random.key(0))


def test_inputs_longer_than_the_model_are_refused():
    with pytest.raises(ValueError, match="inputs have length 17; the model's is 16"):
        classifier(*GCONV)(jnp.zeros((1, 17), jnp.uint8), jnp.array([17]))


def test_pooling_averages_real_tokens_only():
    x = jnp.arange(12.0).reshape(1, 6, 2)
    np.testing.assert_allclose(mean_of_real_tokens(x, jnp.arange(6)[None] < 3, "blc"), [[2, 3]])
    np.testing.assert_allclose(mean_of_real_tokens(jnp.swapaxes(x, 1, 2), jnp.arange(6)[None] < 3, "bcl"), [[2, 3]])


def test_sinusoids_are_those_of_the_paper():
    ours = sinusoids(50, 6, jnp.float32)
    for position in (0, 1, 49):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            np.testing.assert_allclose(ours[position, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)


@pytest.mark.parametrize("length, spread", [(5, False), (6, True)])
def test_a_weight_is_spread_over_the_batch_unless_sequences_are_short(length, spread):
    layers = {
        layout: Linear(6, 12, layout=layout, axes=("embed", "hidden"), dtype=jnp.float32, rngs=nnx.Rngs(0))
        for layout in ("blc", "bcl")
    }
    x = jax.random.normal(jax.random.key(0), (3, length, 6))
    y, gradient = jax.vjp(layers["blc"], x)
    across, gradient_across = jax.vjp(layers["bcl"], x.swapaxes(1, 2))
    np.testing.assert_allclose(across.swapaxes(1, 2), y, atol=1e-6)
    np.testing.assert_allclose(gradient_across(across)[0].swapaxes(1, 2), gradient(y)[0], atol=1e-5)
    program = str(jax.make_jaxpr(layers["bcl"])(x.swapaxes(1, 2)))
    assert ("f32[3,12,6] = broadcast_in_dim" in program) is spread


@pytest.mark.parametrize("layout, axes", [("blc", "bli,blo->io"), ("bcl", "bil,bol->io")])
def test_gradients_of_a_bfloat16_layer_are_summed_in_float32(layout, axes):
    if layout == "blc" and jax.__version_info__ >= (0, 12):
        pytest.skip("from jax 0.12 on XLA's CPU sums this product in bfloat16")
    rng = np.random.default_rng(0)
    x, dy = (jnp.asarray(rng.standard_normal((32, 64, 64)), jnp.bfloat16) for _ in range(2))
    names = ("embed", "hidden")
    graph, state = nnx.split(Linear(64, 64, layout=layout, axes=names, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    found = jax.jit(lambda s, x, dy: jax.vjp(lambda s: nnx.merge(graph, s)(x), s)[1](dy)[0])(state, x, dy)
    exact = [np.asarray(a, np.float64) for a in (x, dy)]
    for name, best in (("kernel", np.einsum(axes, *exact)), ("bias", exact[1].sum((0, 1 if layout == "blc" else 2)))):
        error = np.linalg.norm(np.asarray(found[name][...]) - best) / np.linalg.norm(best)
        assert error < 2e-3, name  # a bfloat16's rounding: 2^-9


@pytest.mark.parametrize("backend", ["cpu", "gpu"])  # where the gradient is a sum, and where it is a product
@pytest.mark.parametrize("vocabulary", [11, 0], ids=["tokens", "pixels"])
def test_gradients_of_the_embedding_are_summed_in_float32(vocabulary, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.integers(0, vocabulary or 256, (32, 512)), jnp.uint8)
    dy = jnp.asarray(rng.standard_normal((32, 512, 8)) + 0.1, jnp.bfloat16)

    def gradients(dtype):
        graph, state = nnx.split(classifier(*ATTENTION, dtype=dtype, vocabulary=vocabulary, length=512))
        embed = lambda s: nnx.merge(graph, s)._embed(inputs)  # noqa: E731
        return jax.tree.leaves(jax.vjp(embed, state)[1](dy.astype(dtype))[0]["embed"])

    for found, exact in zip(gradients(jnp.bfloat16), gradients(jnp.float32), strict=True):
        assert found.dtype == jnp.float32
        assert np.linalg.norm(found - exact) < 5e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_looking_up_is_exact(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    table = jax.random.normal(jax.random.key(0), (11, 8))
    ids = jnp.arange(11, dtype=jnp.uint8)[::-1].reshape(1, 11)
    np.testing.assert_array_equal(look_up(table, ids, jnp.float32)[0], table[::-1])
    np.testing.assert_array_equal(look_up(table, ids, jnp.bfloat16)[0], table[::-1].astype(jnp.bfloat16))


def test_bfloat16_activations_keep_float32_parameters_and_scores():
    model, (inputs, lengths) = classifier(*GCONV, dtype=jnp.bfloat16), batch()
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
    scores = model(inputs, lengths)
    assert scores.dtype == jnp.float32
    exact = classifier(*GCONV)(inputs, lengths)
    assert 0 < np.abs(scores - exact).max() < 0.1


@pytest.mark.parametrize("norm_first, activation", [(False, "relu"), (True, "gelu")], ids=["original", "modern"])
def test_the_block_of_attention_equals_pytorchs_encoder_layer(norm_first, activation):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    features, heads, hidden = 12, 3, 20
    theirs = torch.nn.TransformerEncoderLayer(
        features,
        heads,
        hidden,
        dropout=0.0,
        activation=activation,
        batch_first=True,
        layer_norm_eps=1e-6,
        norm_first=norm_first,
    )
    mixer = Attention(features, 7, heads=heads, rotary=False, dropout=0.0, dtype=jnp.float32, rngs=nnx.Rngs(0))
    ours = Block(
        mixer,
        features,
        mlp_features=hidden,
        activation=activation,
        norm="layer",
        norm_first=norm_first,
        dropout=0.0,
        dtype=jnp.float32,
        rngs=nnx.Rngs(0),
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.3)

    def copied(parameter):
        return jnp.asarray(parameter.detach().numpy())

    # PyTorch orders the rows of its projection (q|k|v, head, size), we order columns (head, q|k|v, size).
    def by_head(rows):
        rows = rows.reshape(3, heads, features // heads, *rows.shape[1:])
        return jnp.moveaxis(rows, 0, 1).reshape(3 * features, *rows.shape[3:])

    attention = theirs.self_attn
    mixer.qkv.kernel[...] = by_head(copied(attention.in_proj_weight)).T
    mixer.qkv.bias[...] = by_head(copied(attention.in_proj_bias))
    for mine, linear in (
        (mixer.out, attention.out_proj),
        (ours.mlp.up, theirs.linear1),
        (ours.mlp.down, theirs.linear2),
    ):
        mine.kernel[...], mine.bias[...] = copied(linear.weight).T, copied(linear.bias)
    for mine, norm in ((ours.mixer_norm, theirs.norm1), (ours.mlp_norm, theirs.norm2)):
        mine.scale[...], mine.bias[...] = copied(norm.weight), copied(norm.bias)
    x = np.random.default_rng(0).standard_normal((2, 7, features)).astype(np.float32)
    mask = np.arange(7) < np.array([7, 4])[:, None]
    with torch.no_grad():
        expected = theirs.train()(torch.from_numpy(x), src_key_padding_mask=torch.from_numpy(~mask)).numpy()
    np.testing.assert_allclose(np.asarray(ours(jnp.asarray(x), jnp.asarray(mask)))[mask], expected[mask], atol=2e-5)


@pytest.mark.parametrize(
    "mixer, layers, norm_first",
    [(GCONV, 12, True), (GCONV, 24, True), (GCONV, 24, False), (ATTENTION, 24, True), (ATTENTION, 12, False)],
)
def test_deep_stacks_train_without_diverging(mixer, layers, norm_first):
    """The first token says the class; a few examples are learnt by heart at a learning rate of 3e-3.

    24 post-norm attention layers are left out: they don't diverge, but stay at the guessing level (see CONTRIBUTING).
    """
    model = classifier(*mixer, layers=layers, norm_first=norm_first, dropout=0.0, mlp_ratio=0.0)
    graphdef, params = nnx.split(model)
    inputs = jax.random.randint(jax.random.key(0), (32, 16), 0, 11)
    labels, lengths = inputs[:, 0] % 3, jnp.full(32, 16)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0, 3e-3, 10)))

    def step(carry, _):
        params, state = carry

        def loss(params):
            scores = nnx.merge(graphdef, params)(inputs, lengths)
            return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    run = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), length=80)[1])
    losses = np.asarray(run(params))
    assert np.isfinite(losses).all()
    assert losses.max() < 2 * losses[0] and losses[-5:].mean() < 0.8 * losses[0], losses[::8]


def test_interleaved_layers_have_the_other_mixer():
    other = {"every": 3, "mixer": Attention, "mixer_options": {"heads": 2, "rotary": True}}
    mixed = classifier(*GCONV, layers=7, interleave=other)
    kinds = [type(block.mixer).__name__ for block in mixed.blocks]
    assert [layer for layer, kind in enumerate(kinds, 1) if kind == "Attention"] == [3, 6]
    assert set(kinds) == {"Attention", "PointwiseGlobalConv"}
    assert mixed(*batch()).shape == (4, 3) and mixed.flops(16).fft > 0
    with pytest.raises(ValueError, match=r"interleave\.every must be at most the number of layers, 2; got 3"):
        classifier(*GCONV, layers=2, interleave=other)


@pytest.mark.parametrize("mixer", [GCONV, ATTENTION])
def test_scores_of_every_position_are_the_head_of_its_own_features(mixer):
    model = classifier(*mixer, answers=16)
    inputs, lengths = batch()
    scores = model(inputs, lengths)
    assert scores.shape == (4, 16, 3) and scores.dtype == jnp.float32
    pooled = classifier(*mixer)(inputs, lengths)  # with the same weights: the mean of the features has the mean score
    real = (jnp.arange(16) < lengths[:, None])[..., None]
    np.testing.assert_allclose((scores * real).sum(1) / real.sum(1), pooled, atol=1e-5)
    assert model.flops(16).fft - classifier(*mixer).flops(16).fft == 15 * 2 * 8 * 3


@pytest.mark.parametrize("mixer", [GCONV, ATTENTION])
def test_tied_scores_are_products_with_the_embeddings_which_learn_from_both(mixer):
    model = classifier(*mixer, answers=2, classes=11, tied=True, positions="learnt", dropout=0.0)
    inputs, lengths = batch()
    x, layout, _ = model._encode(inputs, lengths, None)
    table = model.embed.embedding[...]
    np.testing.assert_allclose(
        model(inputs, lengths), (x if layout == "blc" else jnp.swapaxes(x, 1, 2)) @ table.T, atol=1e-6
    )
    at = jnp.array([[3, 1], [0, 0], [15, 2], [4, 5]])
    for row, two in enumerate(model(inputs, lengths, at=at)):
        np.testing.assert_allclose(two, model(inputs, lengths)[row, at[row]], atol=1e-6)
    assert np.std(table) == pytest.approx(0.02, rel=0.3) and np.std(model.positions[...]) == pytest.approx(
        0.02, rel=0.3
    )
    unseen = min(set(range(11)) - {*map(int, inputs[0])})
    grads = nnx.grad(lambda model: model(inputs, lengths)[0, 15, unseen])(model)["embed"]["embedding"][...]
    rows = set(np.flatnonzero(np.abs(grads).max(axis=1)))
    assert rows == {*map(int, inputs[0]), unseen}
    untied = classifier(*mixer, answers=2, classes=11, positions="learnt", dropout=0.0)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(nnx.state(m, nnx.Param))) for m in (model, untied)]
    assert sizes[1] - sizes[0] == 8 * 11 + 11


@pytest.mark.parametrize("changes", [{"answers": 2}, {"classes": 11}])
def test_scores_of_what_is_no_token_are_not_tied(changes):
    with pytest.raises(ValueError, match="tied is for models that tell tokens, at each position"):
        classifier(*ATTENTION, tied=True, **changes)


@pytest.mark.parametrize("mixer", [GCONV, ATTENTION])
def test_a_decoder_sees_the_last_real_tokens_features_and_nothing_else(mixer):
    model = classifier(*mixer, answers=16, through_last=True)
    inputs, lengths = batch()
    scores = model(inputs, lengths)
    assert scores.shape == (4, 16, 3)
    features, layout = model.tower(model._embed(inputs), jnp.arange(16) < lengths[:, None], [None] * 3)
    features = features if layout == "blc" else jnp.swapaxes(features, 1, 2)
    for row, length in enumerate(lengths):
        last = model.decoder(features[row, length - 1][None], 16)
        np.testing.assert_allclose(scores[row], model.head(last)[0], atol=1e-6)
    assert len(np.unique(np.round(scores[0, :, 0], 6))) == 16, "a position's scores are its own"
    assert model.flops(16).fft - classifier(*mixer, answers=16).flops(16).fft == 2 * 16 * 8 * 8 * 2


def test_sinusoids_are_added_to_pixels_too():
    plain, told = (classifier(*ATTENTION, vocabulary=0, positions=p) for p in ("none", "sinusoidal"))
    added = told._embed(batch()[0]) - plain._embed(batch()[0])
    np.testing.assert_allclose(added, jnp.broadcast_to(sinusoids(16, 8, jnp.float32), (4, 16, 8)), atol=1e-6)


def test_learnt_positions_are_added_to_tokens_and_pixels():
    for vocabulary in (11, 0):
        plain, learnt = (classifier(*ATTENTION, vocabulary=vocabulary, positions=p) for p in ("none", "learnt"))
        inputs, lengths = batch()
        # Their drawing moved the weights drawn after them, so it is the embedding that is compared.
        added = learnt._embed(inputs) - plain._embed(inputs)
        np.testing.assert_allclose(added, jnp.broadcast_to(learnt.positions[...], (4, 16, 8)), atol=1e-6)
        assert np.abs(added).max() > 1 and learnt(inputs[:, :9], jnp.minimum(lengths, 9)).shape == (4, 3)
    with pytest.raises(ValueError, match="positions must be none, sinusoidal or learnt; got 'fixed'"):
        classifier(*ATTENTION, positions="fixed")
