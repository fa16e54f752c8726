"""Which decisions matter, as the trials of a study say together."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def importance(
    tokens: Int[np.ndarray, "n L"],
    value: Float[np.ndarray, "n"],
    groups: Sequence[str],
    vocab: int,
    seed: int,
) -> dict[str, float]:
    """Returns the share of each group of decisions in what shuffling it costs the fit.

    Args:
        tokens: architectures.
        value: of each.
        groups: what each decision counts as.
        vocab: token values.
        seed: of forest and shuffles.
    """
    from sklearn.ensemble import RandomForestRegressor

    names = list(dict.fromkeys(groups))
    one_hot = lambda rows: np.eye(vocab)[rows].reshape(len(rows), -1)
    forest = RandomForestRegressor(200, random_state=seed, n_jobs=1)
    forest.fit(one_hot(tokens), value)
    draw = np.random.default_rng(seed)
    base = np.mean((forest.predict(one_hot(tokens)) - value) ** 2)
    lost = []
    for name in names:
        places = [i for i, group in enumerate(groups) if group == name]
        rises = []
        for _ in range(10):
            mixed = tokens.copy()
            mixed[:, places] = tokens[draw.permutation(len(tokens))][:, places]
            rises.append(np.mean((forest.predict(one_hot(mixed)) - value) ** 2) - base)
        lost.append(max(0.0, float(np.mean(rises))))
    total = sum(lost) or 1.0
    shares = {name: one / total for name, one in zip(names, lost, strict=True)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
