"""How well agents do in the original's setting, with the original's own files.

Its decoder, codebook and surrogate; episodes that start from N(0, 1) and are cut off after
200 steps; what counts is the mean predicted accuracy of the architecture that an episode
ends with, over 100 episodes. Its authors' agents reached 0.838 after 1.0 to 1.5 million
steps. Runs only where the files are given (``--data``).

Writing a codebook entry into a dimension that started from N(0, 1) all but clears it, so an
episode chooses which dimensions to keep, and what can be reached depends on its start. The
best of it is searched: all 256 sets of dimensions to overwrite, many times with codes drawn
at random, then every single change of the best, again and again. What the surrogate gives
over the decoder's whole reach, wherever an episode begins, is searched by evolution.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import harness
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas import registry
from jaxnas.controllers.mlp import MLP
from jaxnas.data.formats import xgboost_model
from jaxnas.envs.change import ChangeEnv
from jaxnas.envs.latent import LatentEnv
from jaxnas.latent import vqvae_checkpoint
from jaxnas.rl.agents import evaluate
from jaxnas.rl.training import EnvHparams, EnvTraining
from jaxnas.surrogates import trees

EPISODES, LIMIT = 100, 200
AUTHORS = 0.838
AUTHORS_STEPS = 1_000_000
"""Of the shorter of the authors' two trainings."""
TYPES = tuple(range(7, 22, 3))
"""Columns of the convolution types."""
PHASES = ((1e-3, 3e-3, 0.4), (1e-3, 1e-3, 0.3), (3e-4, 3e-4, 0.3))
"""Step size, entropy bonus and share of the updates of each part of a training."""
TRAINING_LIMIT = 16
"""Shorter episodes while learning: beyond, all dimensions are long overwritten."""
CHUNK = 100
"""Updates of one program."""


class Setting:
    """The original's files, and the environments over them."""

    def __init__(self, data: Path) -> None:
        space = registry.make_space("analog-resnet", variant="csv")
        names = ("vqvae_decoder_model.pth", "vqvae_codebook.pth")
        self.model, self.weights = vqvae_checkpoint.read(*(data / n for n in names), space)
        surrogate = str(data / "vqvae_surrogate_model.json")
        self.oracle = registry.make_oracle("surrogate", space=space, model=surrogate)
        self.trees = trees.compile_trees(xgboost_model.read(surrogate))
        self.learning, self.evaluation = (self.env(n) for n in (TRAINING_LIMIT, LIMIT))
        self.task = self.evaluation.params(self.evaluation.dynamics.params(self.weights))
        self.entries = self.model.entries(self.weights)
        self.score = jax.jit(self._score)

    def env(self, limit: int) -> ChangeEnv:
        """Returns the environment with episodes of at most ``limit`` steps."""
        return ChangeEnv(LatentEnv(self.model, 0, limit, "normal"), self.oracle)

    def decode(self, latents: Any) -> Any:
        """Returns the architectures of latent vectors."""
        return jax.vmap(lambda latent: self.model.decode(self.weights, latent))(latents)

    def _score(self, latents: Any) -> Any:
        """Returns the predicted accuracy of latent vectors."""
        tokens, rows = self.decode(latents), latents.shape[0]
        yes, level = jnp.ones(rows, bool), jnp.zeros(rows, jnp.int32)
        key, params = jax.random.key(0), self.task["oracle"]
        return self.oracle.evaluate(key, params, (), tokens, level, yes)[1].objectives[:, 0]

    def as_authors(self, tokens: Any) -> Any:
        """Returns predictions with every type coded 0, as its authors' single rows were."""
        features = jax.vmap(self.model.space.features)(tokens)
        return trees.predict(self.trees, features.at[:, jnp.asarray(TYPES)].set(0.0))


def best_from(setting: Setting, starts: Any, draws: int) -> np.ndarray:
    """Returns the best score found within reach of each start."""
    size, codes = setting.entries.shape[1], setting.entries.shape[0]
    places = jnp.arange(size)
    left = jnp.asarray((np.arange(2**size)[:, None] >> np.arange(size)) & 1, bool)

    @jax.jit
    def by_sets(key: Any, start: Any) -> tuple[Any, Any]:
        """Tries every set of dimensions with random codes."""
        chosen = jax.random.randint(key, (2**size, size), 0, codes)
        tried = jnp.where(left, start, setting.entries[chosen, places])
        found = setting._score(tried)
        return jnp.max(found), tried[jnp.argmax(found)]

    @jax.jit
    def climb(start: Any, held: Any) -> Any:
        """Tries every change of one dimension to an entry, or back to the start."""
        values = jnp.concatenate([setting.entries, start[None]])

        def once(held: Any, _: Any) -> tuple[Any, Any]:
            tried = jnp.where(
                places == places[:, None, None], values.T[:, :, None], held
            ).reshape(-1, size)
            found = setting._score(tried)
            return tried[jnp.argmax(found)], jnp.max(found)

        return jnp.max(jax.lax.scan(once, held, None, length=4)[1])

    best = np.zeros(len(starts))
    for i, start in enumerate(starts):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(5), i), draws)
        tried = [by_sets(key, start) for key in keys]
        top = max(tried, key=lambda pair: float(pair[0]))[1]
        best[i] = max(float(climb(start, top)), *(float(found) for found, _ in tried))
    return best


def best_anywhere(setting: Setting, generations: int = 60, width: int = 20_000) -> float:
    """Returns the best score over all latent vectors that evolution finds."""
    rng, best = np.random.default_rng(0), -np.inf
    latents = 3.0 * rng.normal(size=(width, setting.entries.shape[1]))
    for _ in range(generations):
        found = np.asarray(setting.score(jnp.asarray(latents, jnp.float32)))
        best = max(best, float(found.max()))
        parents = latents[np.argsort(-found)[: width // 40]]
        latents = parents[rng.integers(0, len(parents), width)]
        latents = latents + rng.normal(size=latents.shape) * rng.choice(
            [0.05, 0.3, 1.0, 5.0], size=(width, 1)
        )
    return best


class Run(NamedTuple):
    """One training: agents at once, updates, environments and units a layer."""

    agents: int
    updates: int
    envs: int
    hidden: int


RUNS = (Run(1, 1000, 64, 64), Run(4, 1000, 64, 64), Run(1, 2400, 256, 128))
"""Within a hundredth of the authors' time; the same for its spread; and longer."""


def train(setting: Setting, run: Run) -> tuple[Any, EnvTraining, float]:
    """Returns trained controllers, their training, and CPU seconds with compilation."""
    seeds, updates = run.agents, run.updates
    module = MLP(setting.learning.num_actions, separate=True, hidden=run.hidden)
    training = EnvTraining(
        setting.learning,
        module,
        num_envs=run.envs,
        num_steps=16,
        minibatches=4 * max(1, run.envs // 128),
    )
    hparams = EnvHparams(gamma=0.95, gae_lambda=1.0, value_weight=50.0, max_grad_norm=10.0)
    keys = jax.random.split(jax.random.key(0), seeds)
    clock = time.process_time()
    init = jax.vmap(lambda key: training.init(key, hparams, setting.task))
    states = jax.jit(init)(keys)
    some = jax.jit(
        jax.vmap(
            lambda key, state, at: training.train(key, state, setting.task, CHUNK, at),
            (0, 0, None),
        )
    )
    done = 0
    for lr, entropy, share in PHASES:
        spread = lambda value: jnp.full(seeds, value, jnp.float32)
        chosen = states.hparams._replace(lr=spread(lr), entropy=spread(entropy))
        states = states._replace(hparams=chosen)
        for _ in range(round(share * updates / CHUNK)):
            states, metrics = some(keys, states, jnp.int32(done))
            done += CHUNK
            print(f"  {done} updates: {np.nanmean(metrics['return']):+.4f}", flush=True)
    jax.block_until_ready(states)
    return states, training, time.process_time() - clock


def measure(setting: Setting, run: Run) -> dict[str, Any]:
    """Returns what the agents of a training achieve."""
    states, training, cpu_s = train(setting, run)
    evaluation = EnvTraining(setting.evaluation, training.module)

    @jax.jit
    def play(params: Any) -> Any:
        """Plays 100 episodes with each agent in the original's setting."""
        one = lambda params: evaluate(
            jax.random.key(7), evaluation, params, setting.task, episodes=EPISODES
        )
        return jax.lax.map(one, params)

    played = play(states.params)
    score = np.asarray(played.score)
    held = played.state.dynamics.latent.reshape(-1, setting.entries.shape[1])
    coded = np.asarray(setting.as_authors(setting.decode(held))).reshape(score.shape)
    return {
        **run._asdict(),
        "steps": run.updates * training.num_envs * training.num_steps,
        "cpu_s": cpu_s,
        "mean_final": score.mean(axis=1).tolist(),
        "best_final": score.max(axis=1).tolist(),
        "mean_final_coded_as_authors": coded.mean(axis=1).tolist(),
        "mean_length": np.asarray(played.length).mean(axis=1).tolist(),
    }


def authors_seconds() -> float | None:
    """Returns CPU seconds of the authors' path, from ``latent.json``; None without it."""
    path = harness.RESULTS / "latent.json"
    if not path.exists():
        return None
    rows = json.loads(path.read_text())["rows"]
    pandas = next(row for row in rows if row["name"].endswith("pandas"))
    return AUTHORS_STEPS * pandas["ms_median"] / 1e3


def report(document: dict[str, Any]) -> str:
    """Returns the Markdown page."""
    bound, theirs = document["bounds"], document["authors_s"]
    where = document["where"]
    text = (
        "# Agents in the original's setting\n\n"
        f"{where['device']}, commit {where['commit']}, {where['date']} UTC. Mean predicted "
        f"accuracy of the architecture that an episode ends with, {EPISODES} episodes of "
        "the greedy policy, least and most over the agents. CPU seconds of all agents "
        "together, compilation included.\n\n"
    )
    lines = [
        [
            f"jaxnas PPO, {run['hidden']} x 2, {run['steps'] / 1e6:.1f} M steps, "
            f"{run['agents']} agent(s)",
            f"{np.mean(run['mean_final']):.4f} ({min(run['mean_final']):.4f} to "
            f"{max(run['mean_final']):.4f})",
            f"{np.mean(run['mean_final_coded_as_authors']):.4f}",
            f"{max(run['best_final']):.4f}",
            f"{run['cpu_s']:.0f}",
            f"1 / {theirs * run['agents'] / run['cpu_s']:.0f}" if theirs else "-",
        ]
        for run in document["runs"]
    ]
    lines += [
        [
            "its authors' agents, as reported",
            f"{AUTHORS}",
            f"{AUTHORS}",
            "-",
            f"{theirs:.0f}" if theirs else "-",
            "1",
        ],
        [
            "the start, nothing written",
            f"{bound['starts']:.4f}",
            "-",
            f"{bound['starts_best']:.4f}",
            "",
            "",
        ],
        [
            "the best found within reach of the same starts",
            f"{bound['reach']:.4f}",
            "-",
            f"{bound['reach_best']:.4f}",
            "",
            "",
        ],
    ]
    head = ["what", "mean final", "types coded 0", "best of 100", "CPU s"]
    head.append("an agent's share of their time")
    text += harness.markdown(head, lines)
    text += (
        "\n*Types coded 0*: the same architectures with the block types lost, as the "
        "authors' path loses them in single rows; their numbers were read that way. *Their "
        f"time*: {AUTHORS_STEPS:,} steps of Stable-Baselines3 on the pandas path at the "
        "speed of `results/latent.json`.\n\nThe best of the surrogate over all latent "
        f"vectors, by evolution: {bound['anywhere']:.4f}. Over latents made of codebook "
        f"entries alone: {bound['codebook']:.4f}.\n\n"
        "Made by `python benchmarks/vqvae_project.py --data FOLDER`.\n"
    )
    return text


def main() -> None:
    parser = harness.Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the original's files")
    parser.add_argument("--draws", type=int, default=32)
    args = parser.parse_args()
    setting = Setting(args.data)
    keys = jax.random.split(jax.random.key(7), EPISODES)
    reset = lambda key: setting.evaluation.reset(jax.random.split(key, 4)[0], setting.task)[
        0
    ]
    starts = jax.vmap(reset)(keys).dynamics.latent
    begun = np.asarray(setting.score(starts))
    chosen = jax.random.randint(jax.random.key(1), (100_000, 8), 0, len(setting.entries))
    found = best_from(setting, starts, args.draws)
    bounds = {
        "starts": float(begun.mean()),
        "starts_best": float(begun.max()),
        "reach": float(found.mean()),
        "reach_best": float(found.max()),
        "codebook": float(setting.score(setting.entries[chosen, jnp.arange(8)]).max()),
        "anywhere": best_anywhere(setting),
    }
    print(bounds, flush=True)
    document = {
        "where": harness.provenance(),
        "bounds": bounds,
        "authors_s": authors_seconds(),
        "runs": [measure(setting, run) for run in RUNS],
    }
    harness.write("vqvae_project", document, report(document))


if __name__ == "__main__":
    main()
