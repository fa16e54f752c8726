"""Peer: REINFORCE over an LSTM in PyTorch, one architecture at a time.

The loop that controller-based architecture search grew up with (Zoph and Le, 2017; Pham et
al., 2018): an embedding, one ``LSTMCell`` step a token, a ``Categorical`` a step, the sum
of log-probabilities times (reward - moving-average baseline), Adam. One controller; an
update is the mean over eight architectures that are sampled one after the other.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical
from worker import Region, serve


class Controller(nn.Module):
    """Embedding, LSTM cell and a linear head."""

    def __init__(self, vocab: int, hidden: int) -> None:
        super().__init__()
        self.start = vocab
        self.embedding = nn.Embedding(vocab + 1, hidden)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.head = nn.Linear(hidden, vocab)

    def sample(self, length: int) -> tuple[list[int], torch.Tensor]:
        """Returns one architecture and the log-probability of having drawn it."""
        token = torch.tensor([self.start])
        carry = None
        tokens, log_probs = [], []
        for _ in range(length):
            carry = self.cell(self.embedding(token), carry)
            # Validation off: it costs this loop up to 10 % and no search needs it.
            policy = Categorical(logits=self.head(carry[0]), validate_args=False)
            token = policy.sample()
            log_probs.append(policy.log_prob(token))
            tokens.append(int(token))
        return tokens, torch.cat(log_probs).sum()


def reward_of(table: np.ndarray, tokens: list[int]) -> float:
    """Returns the mean of the table's entries for each half of the tokens (two cells)."""
    half = len(tokens) // 2
    first = second = 0
    for a, b in zip(tokens[:half], tokens[half:], strict=True):
        first, second = first * 5 + a, second * 5 + b
    return float(table[first] + table[second]) / 2


def prepare(args: argparse.Namespace) -> Region:
    """Returns the region: ``updates`` updates of one controller."""
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    table = np.random.default_rng(0).random(5**6).astype(np.float32)
    net = Controller(5, args.hidden)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    baseline = 0.5

    def update() -> float:
        nonlocal baseline
        loss, total = 0.0, 0.0
        for _ in range(args.samples):
            tokens, log_prob = net.sample(args.length)
            reward = reward_of(table, tokens)
            loss = loss - log_prob * (reward - baseline)
            baseline = 0.9 * baseline + 0.1 * reward
            total += reward
        adam.zero_grad()
        (loss / args.samples).backward()
        adam.step()
        return total

    def region(_: None) -> float:
        rewards = sum(update() for _ in range(args.updates))
        return rewards + float(sum(p.detach().sum() for p in net.parameters()))

    for _ in range(3):
        update()
    return Region(region)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--length", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    serve(
        lambda: prepare(args),
        name="torch-reinforce-loop",
        unit="controller-update",
        units=args.updates,
        settings=vars(args),
        versions={"torch": torch.__version__, "numpy": np.__version__},
    )


if __name__ == "__main__":
    main()
