"""Runs parts of IBM's aihwkit by itself: ``python toolkit.py MODE in.npz out.npz``.

It knows torch, numpy and aihwkit only; the tests start it as a process of its own, so that
neither toolkit lives beside JAX in one process.
"""

import sys
import time

import numpy as np
import torch
from aihwkit.nn.conversion import convert_to_analog
from aihwkit.optim import AnalogSGD
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import (
    BoundManagementType,
    NoiseManagementType,
    WeightClipType,
    WeightModifierType,
    WeightRemapType,
)

TIMES = (60.0, 3600.0, 86400.0, 2592000.0)


def recipe(**changes):
    """IBM's analognasbench recipe on the torch tile."""
    c = TorchInferenceRPUConfig()
    c.forward.inp_res = c.forward.out_res = 1 / 254
    c.forward.out_bound, c.forward.out_noise = 10.0, 0.04
    c.forward.noise_management = NoiseManagementType.NONE
    c.forward.bound_management = BoundManagementType.NONE
    c.pre_post.input_range.enable = True
    c.pre_post.input_range.decay = 0.01
    c.pre_post.input_range.input_min_percentage = 0.995
    c.mapping.weight_scaling_omega = 1.0
    c.mapping.weight_scaling_columnwise = bool(changes.get("columnwise", False))
    c.mapping.max_input_size = c.mapping.max_output_size = 512
    c.remap.type = WeightRemapType.LAYERWISE_SYMMETRIC
    c.clip.type, c.clip.sigma = WeightClipType.LAYER_GAUSSIAN, 2.0
    c.modifier.type, c.modifier.std_dev = WeightModifierType.ADD_NORMAL, 0.06
    for name in ("inp_res", "out_res", "out_noise"):
        if name in changes:
            setattr(c.forward, name, float(changes[name]))
    return c


def layer(weight, bias, config, strides=1):
    """An analog layer that holds given weights, [O, I, H, W] or [O, I]."""
    weight = torch.from_numpy(weight)
    outputs, inputs = weight.shape[:2]
    if weight.ndim == 4:
        digital = torch.nn.Conv2d(inputs, outputs, weight.shape[2:], strides, 1)
    else:
        digital = torch.nn.Linear(inputs, outputs)
    with torch.no_grad():
        digital.weight.copy_(weight)
        digital.bias.copy_(torch.from_numpy(bias))
    return convert_to_analog(torch.nn.Sequential(digital), config)


def forward(data):
    """Outputs with given input ranges, no output noise, nothing programmed."""
    net = layer(
        data["weight"], data["bias"], recipe(out_noise=0, columnwise=data["columnwise"]),
        int(data["strides"]),
    )  # fmt: skip
    net.eval()
    tiles = list(net.analog_tiles())
    for tile, b in zip(tiles, data["ranges"], strict=True):
        tile.set_input_range(float(b))
    with torch.no_grad():
        y = net(torch.from_numpy(data["x"]))
    return {"y": y.numpy(), "sizes": [(t.in_size, t.out_size) for t in tiles]}


def library(data):
    """Outputs with the toolkit's own settings (abs-max, iterative), no output noise."""
    config = TorchInferenceRPUConfig()
    config.forward.out_noise = 0.0
    net = layer(data["weight"], data["bias"], config)
    net.eval()
    with torch.no_grad():
        return {"y": net(torch.from_numpy(data["x"])).numpy()}


def drift(data):
    """Programmed and drifted weights and alphas over reprogrammed draws."""
    torch.manual_seed(int(data["seed"]))
    draws = int(data["draws"])
    net = layer(data["weight"], np.zeros(len(data["weight"]), np.float32), recipe())
    net.eval()
    tile = next(net.analog_tiles())
    programmed, drifted, alphas = [], [], []
    for _ in range(draws):
        tile.program_weights()
        programmed.append(tile.tile.get_weights().numpy().copy())
        for t in TIMES:
            tile.drift_weights(t)
            drifted.append(tile.tile.get_weights().numpy().copy())
            alphas.append(float(tile.alpha))
    shape = data["weight"].shape
    return {
        "programmed": np.stack(programmed),
        "drifted": np.stack(drifted).reshape(draws, 4, *shape),
        "alphas": np.reshape(alphas, (draws, 4)),
    }


def train(data):
    """One training step of one layer without noise or rounding; then clip and remap."""
    config = recipe(inp_res=-1, out_res=-1, out_noise=0)
    config.forward.out_bound = 1e6  # the torch tile gives clipped outputs no gradient
    config.modifier.type = WeightModifierType.NONE
    config.pre_post.input_range.init_from_data = int(data["init_from_data"])
    net = layer(data["weight"], data["bias"], config, int(data["strides"]))
    net.train()
    tiles = list(net.analog_tiles())
    for tile in tiles:
        tile.set_input_range(float(data["range"]))
    optimiser = AnalogSGD(net.parameters(), lr=float(data["lr"]))
    optimiser.regroup_param_groups(net)
    optimiser.zero_grad()
    y = net(torch.from_numpy(data["x"]))
    used = [t.input_range.item() for t in tiles]
    (y * torch.from_numpy(data["cotangent"])).sum().backward()
    gradient = [t.input_range.grad.item() for t in tiles]
    optimiser.step()
    weight = net[0].get_weights()[0].numpy()
    return {
        "gradient": gradient,
        "used": used,
        "weight": weight.reshape(data["weight"].shape),
        "scale": [float(t.get_scales().reshape(-1)[0]) for t in tiles],
    }


def accuracy(data):
    """Accuracy of a small network over reprogrammed draws and times, and CPU seconds."""
    torch.manual_seed(int(data["seed"]))
    torch.set_num_threads(int(data.get("threads", 1)))
    parts = []
    for i in range(int(data["convolutions"])):
        w = torch.from_numpy(data[f"conv{i}"])
        stride = int(data["strides"][i])
        conv = torch.nn.Conv2d(w.shape[1], w.shape[0], 3, stride, 1, bias=False)
        norm = torch.nn.BatchNorm2d(w.shape[0], eps=1e-5)
        with torch.no_grad():
            conv.weight.copy_(w)
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).copy_(torch.from_numpy(data[f"norm{i}.{name}"]))
        parts += [conv, norm, torch.nn.ReLU()]
    out = torch.nn.Linear(*data["out"].shape[::-1])
    with torch.no_grad():
        out.weight.copy_(torch.from_numpy(data["out"]))
        out.bias.copy_(torch.from_numpy(data["out.bias"]))
    parts += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), out]
    net = convert_to_analog(torch.nn.Sequential(*parts), recipe())
    net.eval()
    for tile, b in zip(net.analog_tiles(), data["ranges"], strict=True):
        tile.set_input_range(float(b))
    x, labels = torch.from_numpy(data["x"]), torch.from_numpy(data["labels"])
    found, begin = [], time.process_time()
    with torch.no_grad():
        for _ in range(int(data["draws"])):
            net.program_analog_weights()
            for t in data["times"]:
                net.drift_analog_weights(float(t))
                logits = torch.cat([net(part) for part in x.split(100)])
                found.append(float((logits.argmax(1) == labels).float().mean()))
    seconds = time.process_time() - begin
    shape = (int(data["draws"]), len(data["times"]))
    return {"accuracy": np.reshape(found, shape), "cpu_s": seconds}


MODES = {
    "forward": forward,
    "library": library,
    "drift": drift,
    "train": train,
    "accuracy": accuracy,
}


if __name__ == "__main__":
    jobs = sys.argv[1:]
    for mode, source, target in zip(jobs[::3], jobs[1::3], jobs[2::3], strict=True):
        with np.load(source) as file:
            np.savez(target, **MODES[mode](dict(file)))
