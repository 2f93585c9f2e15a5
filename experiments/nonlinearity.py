"""What stands between the question's two convolutions; nothing is the control."""

from experiments.grid import RATES, Part, Table, with_norms

TABLE = Table(
    title="The nonlinearity between two global convolutions, with no pointwise mixing at all",
    rows={
        name: Part("gconv_plain", {"model.mixer_options.activation": name, "model.mlp_ratio": 0.0})
        for name in ("identity", "relu", "gelu")
    },
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image": Part("image")},
    sweep=with_norms(RATES[1:3], norms=["batch"]),  # with which main finds convolutions best
    note="Channels meet in the norm only: these models have neither a perceptron nor a gate.",
)
