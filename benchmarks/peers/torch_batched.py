"""Peer: the same REINFORCE controllers in PyTorch, all at once, at PyTorch's best.

No Python loop over controllers or samples: the parameters of all controllers are stacked
and every product is one ``bmm``. What made it faster on CPU is in it: input and memory in
one product, a fused Adam over the stacked parameters, an inverse-CDF draw, gradients
through the sampling pass itself, so that nothing is computed twice. ``--folded`` replaces
embedding and input product by one learned row a token (what jaxnas does, fewer operations
for the same functions). ``torch.compile`` was tried and was slower here.
"""

import argparse
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from worker import Region, serve


class Controllers(nn.Module):
    """Stacked LSTM controllers over ``bmm``; biases are rows beside the token's."""

    def __init__(self, count: int, vocab: int, hidden: int, folded: bool) -> None:
        super().__init__()
        scale = 1 / math.sqrt(hidden)
        uniform = lambda *shape: nn.Parameter(torch.empty(shape).uniform_(-scale, scale))
        self.vocab, self.hidden, self.count, self.folded = vocab, hidden, count, folded
        inputs = vocab + 1 if folded else hidden
        self.weight = uniform(count, inputs + hidden, 4 * hidden)
        self.embedding = None if folded else uniform(count, vocab + 1, hidden)
        self.bias = None if folded else uniform(count, 1, 4 * hidden)
        self.head = uniform(count, hidden, vocab)
        self.head_bias = nn.Parameter(torch.zeros(count, 1, vocab))

    def gates(self, row: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Returns the pre-activations ``[C, B, 4H]`` from one-hot tokens and memory."""
        if self.folded:
            return torch.bmm(torch.cat([row, h], dim=2), self.weight)
        inputs = torch.cat([torch.bmm(row, self.embedding), h], dim=2)
        return torch.baddbmm(self.bias, inputs, self.weight)

    def forward(self, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns tokens ``[T, C, B]`` and log-probabilities ``[C, B]``."""
        samples, hidden = uniforms.shape[2], self.hidden
        h = c = uniforms.new_zeros(self.count, samples, hidden)
        start = torch.full((self.count, samples), self.vocab)
        row = functional.one_hot(start, self.vocab + 1)
        log_prob, tokens = 0.0, []
        for u in uniforms:
            gates = self.gates(row.float(), h)
            i, f, o = torch.sigmoid(gates[..., : 3 * hidden]).chunk(3, dim=2)
            c = f * c + i * torch.tanh(gates[..., 3 * hidden :])
            h = o * torch.tanh(c)
            log_p = torch.log_softmax(torch.baddbmm(self.head_bias, h, self.head), dim=2)
            with torch.no_grad():
                below = log_p.exp().cumsum(2) < u[..., None]
                token = below.sum(2).clamp_(max=self.vocab - 1)
                row = functional.one_hot(token, self.vocab + 1)
            log_prob = log_prob + (log_p * row[..., :-1]).sum(2)
            tokens.append(token)
        return torch.stack(tokens), log_prob


def prepare(args: argparse.Namespace) -> Region:
    """Returns the region: ``updates`` updates of every controller."""
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    table = torch.from_numpy(np.random.default_rng(0).random(5**6).astype(np.float32))
    net = Controllers(args.controllers, 5, args.hidden, args.folded)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    half = args.length // 2
    radix = (5 ** torch.arange(half - 1, -1, -1))[:, None, None]
    baseline = torch.full((args.controllers, 1), 0.5)

    def update() -> torch.Tensor:
        nonlocal baseline
        uniforms = torch.rand(args.length, args.controllers, args.samples)
        tokens, log_prob = net(uniforms)
        first, second = (tokens[:half] * radix).sum(0), (tokens[half:] * radix).sum(0)
        reward = (table[first] + table[second]) / 2
        adam.zero_grad()
        (-(log_prob * (reward - baseline)).mean(1).sum()).backward()
        adam.step()
        baseline = 0.9 * baseline + 0.1 * reward.mean(1, keepdim=True)
        return reward.sum()

    def region(_: None) -> float:
        rewards = sum(float(update()) for _ in range(args.updates))
        return rewards + float(sum(p.detach().sum() for p in net.parameters()))

    for _ in range(3):
        update()
    return Region(region)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--controllers", type=int, default=64)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--length", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folded", action="store_true", help="no embedding: a row a token")
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name="torch-reinforce-batched",
        unit="controller-update",
        units=args.updates * args.controllers,
        settings=vars(args),
        versions={"torch": torch.__version__, "numpy": np.__version__},
    )


if __name__ == "__main__":
    main()
