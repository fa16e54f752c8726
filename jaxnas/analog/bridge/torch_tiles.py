"""How a torch network lies on aihwkit's tiles, and what it holds there by the spec's names.

Runs beside ``torch_net.py``, with torch and aihwkit. The order of the tiles is that of the
JAX simulator (``jaxnas/analog/plan.py``): layer after layer, in each group after group.
"""

from typing import Any

import torch
from torch import Tensor, nn

NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm
"""Digital layers with arrays, besides the tables of embeddings."""


class GroupedConv(nn.ModuleList):
    """A grouped convolution as one convolution for each group, in order.

    aihwkit refuses groups, and a tile computes the products of all its rows and columns: so
    each group has tiles of its own, as in the JAX simulator.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        groups, (outputs, inputs) = conv.groups, conv.weight.shape[:2]
        sizes: tuple[Any, ...] = (
            inputs, outputs // groups, conv.kernel_size, conv.stride, conv.padding,
        )  # fmt: skip
        for i in range(groups):
            own: Any = nn.Conv2d(*sizes, bias=conv.bias is not None)
            rows = slice(i * own.out_channels, (i + 1) * own.out_channels)
            with torch.no_grad():
                own.weight.copy_(conv.weight[rows])
                if conv.bias is not None:
                    own.bias.copy_(conv.bias[rows])
            self.append(own)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the outputs of all groups, their channels joined."""
        parts = x.chunk(len(self), dim=1)
        return torch.cat([conv(part) for conv, part in zip(self, parts)], dim=1)


def split_groups(net: nn.Module) -> nn.Module:
    """Returns a network, changed in place, without grouped convolutions."""
    for name, child in list(net.named_children()):
        if isinstance(child, nn.Conv2d) and child.groups > 1:
            setattr(net, name, GroupedConv(child))
        else:
            split_groups(child)
    return net


def on_tiles(net: nn.Module, config: Any) -> Any:
    """Returns the network on analog tiles of an ``rpu_config``, its weights unchanged.

    Convolutions and linear layers are analog, those inside gates and attention too; norms,
    activations, pooling, scores and their softmax stay digital.
    """
    from aihwkit.nn.conversion import convert_to_analog

    return convert_to_analog(split_groups(net), config)


def analog_layers(net: Any) -> dict[str, list[Any]]:
    """Returns analog layers by the spec's paths; of a grouped convolution one a group."""
    found: dict[str, list[Any]] = {}
    grouped = {n for n, m in net.named_modules() if isinstance(m, GroupedConv)}
    for path, layer in net.named_analog_layers():
        parent = path.rpartition(".")[0]
        found.setdefault(parent if parent in grouped else path, []).append(layer)
    return found


def hardware_aware_arrays(net: Any) -> dict[str, Tensor]:
    """Returns weights, statistics and input ranges under the names of the spec's paths."""
    found: dict[str, Tensor] = {}
    for path, layers in analog_layers(net).items():
        weights, biases = zip(*map(_weights, layers))
        found[f"{path}.weight"] = torch.cat(weights)
        if biases[0] is not None:
            found[f"{path}.bias"] = torch.cat(biases)
        tiles = [tile for layer in layers for tile in layer.analog_tiles()]
        ranges = [tile.input_range.detach().reshape(()) for tile in tiles]
        found[f"{path}.input_range"] = torch.stack(ranges)
    for path, layer in net.named_modules():
        if isinstance(layer, NORMS) or "table" in layer._parameters:
            state = layer.state_dict()
            state.pop("num_batches_tracked", None)
            found |= {f"{path}.{name}": value for name, value in state.items()}
    return {name: value.detach().float() for name, value in found.items()}


def _weights(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Returns weight, in torch's layout, and bias of an analog layer."""
    weight, bias = layer.get_weights()
    shape = getattr(layer, "weight_shape", None) or weight.shape
    if hasattr(layer, "kernel_size"):
        shape = (layer.out_channels, layer.in_channels, *layer.kernel_size)
    return weight.reshape(shape), bias
