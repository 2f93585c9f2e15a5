"""Layer norm or batch norm, gconv beside attention, at equal parameters."""

from experiments.grid import Part, Table


def listops_at(rate: float) -> Part:
    return Part("listops", {"optim.lr": rate, "optim.kernel_lr": rate})


TABLE = Table(
    title="Layer norm and batch norm before each half of a block, gconv beside attention, at equal parameters",
    rows={
        f"{name}, {norm} norm": Part(mixer, {"model.norm": norm})
        for name, mixer in (("gconv", "gconv,match=parameters"), ("attention", "attention"))
        for norm in ("layer", "batch")
    },
    columns={
        "ListOps": Part("listops"),
        "ListOps at .01": listops_at(1e-2),
        "ListOps at .03": listops_at(3e-2),
        "Image": Part("image"),
    },
    seeds=(0, 1, 2, 3, 4),
    note="The rate is .003 where a column doesn't say another.",
)
