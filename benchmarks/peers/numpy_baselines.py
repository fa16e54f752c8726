"""Plain references without JAX: random, evolution, local search, tabular REINFORCE.

Written for reading, one seed at a time; nothing of jaxnas is used. A query is the first
evaluation of an architecture by a run; repeats are free. A run ends at ``budget`` queries
or ``8 * budget`` proposals, and its curve is carried forward.

The variants are those that give the reference values of the benchmark (see the README):
evolution draws its tournament of distinct individuals, puts repeats into the population
like any child, and mutates one edge to another operation; local search draws random starts,
then climbs from the best one in random neighbour order and moves at the first improvement;
an architecture counts as expanded once it has been a centre, also when it was left early,
and at a minimum the search continues from the best architecture that was not expanded yet.
"""

import contextlib
import random
from collections.abc import Callable, Sequence

import numpy as np

LENGTH, VOCAB = 6, 5
PLACE = [VOCAB**p for p in range(LENGTH - 1, -1, -1)]
SIZE = VOCAB**LENGTH


class BudgetSpentError(Exception):
    """The run has used its queries or its proposals."""


class Ledger:
    """Counts distinct queries and keeps the best value after each."""

    def __init__(self, values: Sequence[float], budget: int, max_proposals: int) -> None:
        self.values, self.budget, self.max_proposals = values, budget, max_proposals
        self.seen: set[int] = set()
        self.curve: list[float] = []
        self.proposals = 0

    def ask(self, row: int) -> float:
        """Returns the value of an architecture; the first time costs a query."""
        if len(self.curve) >= self.budget or self.proposals >= self.max_proposals:
            raise BudgetSpentError
        self.proposals += 1
        value = self.values[row]
        if row not in self.seen:
            self.seen.add(row)
            self.curve.append(max(value, self.curve[-1]) if self.curve else value)
        return value


def neighbours(row: int) -> list[int]:
    """Returns the 24 architectures that differ from ``row`` on one edge."""
    near = []
    for place in PLACE:
        op = row // place % VOCAB
        near += [row + (other - op) * place for other in range(VOCAB) if other != op]
    return near


NEIGHBOURS = [neighbours(row) for row in range(SIZE)]


def random_search(ledger: Ledger, rng: random.Random) -> None:
    """Uniform draws; a repeat is free, so this is search without replacement."""
    while True:
        ledger.ask(rng.randrange(SIZE))


def evolution(
    ledger: Ledger, rng: random.Random, population: int = 30, sample: int = 15
) -> None:
    """Regularised evolution (Real et al., 2019), a tournament of distinct individuals."""
    alive = [(ledger.ask(row), row) for row in rng.choices(range(SIZE), k=population)]
    while True:
        _, parent = max(rng.sample(alive, sample))
        child = rng.choice(NEIGHBOURS[parent])
        alive.append((ledger.ask(child), child))
        alive.pop(0)


def local_search(ledger: Ledger, rng: random.Random, starts: int = 20) -> None:
    """First-improvement climbing, continued at minima (White et al., 2021, adapted)."""
    known = {row: ledger.ask(row) for row in rng.choices(range(SIZE), k=starts)}
    expanded: set[int] = set()
    while True:
        centre = max((row for row in known if row not in expanded), key=known.__getitem__)
        expanded.add(centre)
        near = NEIGHBOURS[centre][:]
        rng.shuffle(near)
        for row in near:
            known[row] = ledger.ask(row)
            if known[row] > known[centre] and row not in expanded:
                break


def tabular_reinforce(
    ledger: Ledger,
    rng: random.Random,
    lr: float = 0.05,
    decay: float = 0.9,
    batch: int = 1,
) -> None:
    """Independent softmax an edge, moving-average baseline, Adam."""
    draw = np.random.default_rng(rng.randrange(2**32))
    logits, first, second = (np.zeros((LENGTH, VOCAB)) for _ in range(3))
    baseline, step = None, 0
    while True:
        probs = np.exp(logits - logits.max(1, keepdims=True))
        probs /= probs.sum(1, keepdims=True)
        gradient = np.zeros_like(logits)
        for _ in range(batch):
            ops = (probs.cumsum(1) < draw.random((LENGTH, 1))).sum(1).clip(max=VOCAB - 1)
            reward = ledger.ask(int(ops @ PLACE))
            baseline = reward if baseline is None else baseline
            gradient -= (np.eye(VOCAB)[ops] - probs) * (reward - baseline) / batch
            baseline = decay * baseline + (1 - decay) * reward
        step += 1
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = (second / (1 - 0.999**step)) ** 0.5
        logits -= lr * first / (1 - 0.9**step) / (unbiased + 1e-8)


METHODS: dict[str, tuple[Callable[..., None], dict[str, int]]] = {
    "random": (random_search, {}),
    "evolution-30-15": (evolution, {"population": 30, "sample": 15}),
    "evolution-20-10": (evolution, {"population": 20, "sample": 10}),
    "local-search": (local_search, {"starts": 20}),
    "tabular-reinforce": (tabular_reinforce, {}),
}


def run(name: str, values: Sequence[float], seed: int, budget: int = 500) -> np.ndarray:
    """Returns the best value after each query, ``[budget]``; NaN where not reached."""
    method, options = METHODS[name]
    ledger = Ledger(values, budget, 8 * budget)
    with contextlib.suppress(BudgetSpentError):
        method(ledger, random.Random(f"{name}:{seed}"), **options)
    curve = np.full(budget, np.nan)
    curve[: len(ledger.curve)] = ledger.curve
    return curve
