"""gconv at the width that equals attention in parameters, FLOPs either way of counting, or time."""

from experiments.grid import Part, Table, rates, with_norms

TABLE = Table(
    title="Four ways to match gconv with attention",
    rows={
        "attention": Part("attention"),
        "gconv, same parameters": Part("gconv,match=parameters"),
        "gconv, same FLOPs, direct": Part("gconv,match=flops_direct"),
        "gconv, same FLOPs, by FFT": Part("gconv,match=flops"),
        "gconv, same time": Part("gconv,match=time"),
    },
    columns={"ListOps": Part("listops"), "Image": Part("image")},
    sweep=with_norms(rates(3e-3, 1e-2)),
    note="The width of the same time was measured where the runs were made.",
)
