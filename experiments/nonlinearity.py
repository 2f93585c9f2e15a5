"""What stands between the question's two convolutions; nothing is the control."""

from experiments.grid import Part, Table, rates, with_norms

TABLE = Table(
    title="The nonlinearity between two global convolutions, with no pointwise mixing at all",
    rows={
        name: Part("gconv_plain", {"model.mixer_options.activation": name, "model.mlp_ratio": 0.0})
        for name in ("identity", "relu", "gelu")
    },
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image": Part("image")},
    sweep=with_norms(rates(3e-3, 1e-2), norms=["batch"]),  # with which main finds convolutions best
    note="Channels meet in the norm only: these models have neither a perceptron nor a gate.",
)
