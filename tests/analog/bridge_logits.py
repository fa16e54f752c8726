"""Logits of a network on aihwkit's tiles: ``python bridge_logits.py BRIDGE FOLDER JOB``.

A process of its own, so that torch and JAX do not share one. Prints JSON.
"""

import importlib
import json
import sys
import warnings
from pathlib import Path

import torch

warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
exporter, runner = map(importlib.import_module, ("exporter", "runner"))
folder = Path(sys.argv[2])
digital = exporter._digital(folder)
images = exporter._images(folder)
net = runner.convert(digital, json.loads(sys.argv[3])).eval()
net = exporter._with_ranges(net, folder)
with torch.no_grad():
    logits = net(images).tolist()
sizes = [(tile.in_size, tile.out_size) for tile in net.analog_tiles()]
print(json.dumps({"logits": logits, "sizes": sizes}))
