"""A network with every operation that has a place on or beside the tiles."""

from jaxnas.spaces import spec as sp

WINDOW = {"kernel": 3, "stride": 1, "padding": 1}
TALL = {"kernel": 3, "padding": 1, "kernel_width": 1, "padding_width": 0, "stride": 1}
NODES = [  # name, operation, inputs, attributes
    ("wide", "conv", ["image"], {**WINDOW, "features": 8, "bias": True}),
    ("depth", "depthwise_conv", ["wide"], WINDOW),
    ("tall", "conv", ["depth"], {**TALL, "groups": 4, "bias": True}),
    ("by_layer", "layer_norm", ["tall"], {}),
    ("gelu", "gelu", ["by_layer"], {}),
    ("grouped", "relu_conv_bn", ["gelu"], {**WINDOW, "features": 8, "groups": 2}),
    ("by_instance", "instance_norm", ["grouped"], {}),
    ("tanh", "tanh", ["by_instance"], {}),
    ("by_group", "group_norm", ["grouped"], {"groups": 2}),
    ("sigmoid", "sigmoid", ["by_group"], {}),
    ("by_batch", "batch_norm", ["grouped"], {}),
    ("swish", "swish", ["by_batch"], {}),
    ("added", "sum", ["tanh", "sigmoid", "swish"], {}),
    ("dropped", "dropout", ["added"], {"rate": 0.1}),
    ("largest", "max_pool", ["dropped"], {"kernel": 2, "stride": 2, "padding": 0}),
    ("mean", "avg_pool", ["largest"], WINDOW),
    ("scales", "multi_scale_pool", ["mean"], {"scales": 2}),
    ("attended", "attention_edge", ["scales", "dropped"], {}),
    ("gated", "gated_skip", ["attended", "largest"], {}),
    ("moved", "shift", ["gated"], {"pixels": 1}),
    ("same", "identity", ["moved"], {}),
    ("nothing", "zero", ["moved"], {}),
    ("joined", "concat", ["same", "nothing"], {}),
    ("padded", "pad_concat", ["joined", "wide"], {}),
    ("relu", "relu", ["padded"], {}),
    ("means", "global_avg_pool", ["relu"], {}),
    ("pixels", "flatten", ["gated"], {}),
    ("by_means", "linear", ["means"], {"features": 3}),
    ("by_pixels", "linear", ["pixels"], {"features": 3}),
    ("logits", "sum", ["by_means", "by_pixels"], {}),
]
SPEC = {
    "format": sp.FORMAT,
    "space": "every-operation",
    "inputs": {"image": sp.image(6, 6, 2)},
    "outputs": {"logits": sp.vector(3)},
    "blocks": {},
    "nodes": [sp.node(name, op, inputs, **given) for name, op, inputs, given in NODES],
}
