"""Peer: Stable-Baselines3 PPO on the original's latent environment.

Settings of the comparison: 4 environments x 128 steps, 4 epochs x 4 minibatches of 128,
actor and critic of 64 x 64 each (SB3's own), 14 x 8 + 1 actions, limit of 200 steps. One
step decodes one latent vector with torch (one thread, inference mode) and asks the 150
trees once, either with ``Booster.inplace_predict`` on a NumPy row (the peer at its best)
or, with ``--path pandas``, through a DataFrame and a DMatrix a step, as the original's
authors do.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import gymnasium
import numpy as np
import torch
import xgboost
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from worker import Region, serve

NUM_ENVS, NUM_STEPS, MAX_STEPS = 4, 128, 200
GREATEST = (128, 5, *(16,) * 5, *(4, 4, 12) * 5)
LEAST = (8, 1, *(0,) * 20)


class Surrogate:
    """Scores one configuration, on one of the two paths."""

    def __init__(self, folder: Path, path: str) -> None:
        self.booster = xgboost.Booster()
        self.booster.load_model(folder / "surrogate.json")
        self.booster.set_param({"nthread": 1})
        self.names, self.kinds = self.booster.feature_names, self.booster.feature_types
        self.pandas = path == "pandas"
        if self.pandas:
            import pandas

            self.frame = pandas.DataFrame
            self.categories = [
                name
                for name, kind in zip(self.names or [], self.kinds or [], strict=True)
                if kind == "c"
            ]
        else:
            self.booster.feature_names = self.booster.feature_types = None

    def __call__(self, row: np.ndarray) -> float:
        """Returns the predicted accuracy."""
        if not self.pandas:
            return float(self.booster.inplace_predict(row[None])[0])
        frame = self.frame([row], columns=self.names).astype(int)
        for name in self.categories:
            frame[name] = frame[name].astype("category")
        matrix = xgboost.DMatrix(frame, enable_categorical=bool(self.categories))
        return float(self.booster.predict(matrix)[0])


class LatentEnv(gymnasium.Env):
    """The original's environment: write one latent dimension a step, or stop."""

    def __init__(self, codebook: np.ndarray, decoder: torch.nn.Module, score) -> None:
        self.codebook, self.decoder, self.score = codebook, decoder, score
        codes, size = codebook.shape
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(codes * size + 1)
        self.least, self.greatest = np.float32(LEAST), np.float32(GREATEST)

    def reset(self, *, seed=None, options=None):
        """Starts from a normal draw."""
        super().reset(seed=seed)
        self.latent = self.np_random.standard_normal(
            self.codebook.shape[1], dtype=np.float32
        )
        self.time, self.previous = 0, 0.0
        return self.latent.copy(), {}

    def step(self, action):
        """Writes, decodes, scores; a step limit truncates."""
        self.time += 1
        codes, size = self.codebook.shape
        if action == codes * size:
            return self.latent.copy(), 0.0, True, False, {}
        dim = action % size
        self.latent[dim] = self.codebook[action // size, dim]
        with torch.inference_mode():
            raw = self.decoder(torch.from_numpy(self.latent)).numpy()
        row = np.clip(np.rint(raw), self.least, self.greatest)
        score = self.score(row)
        reward, self.previous = score - self.previous, score
        return self.latent.copy(), reward, False, self.time >= MAX_STEPS, {}


def read_decoder(arrays) -> torch.nn.Module:
    """Returns the decoder: dense layers with ReLU, the output's too."""
    layers: list[torch.nn.Module] = []
    for i in range(sum(name.startswith("kernel_") for name in arrays)):
        kernel = torch.from_numpy(arrays[f"kernel_{i}"])
        layer = torch.nn.Linear(*kernel.shape)
        layer.weight.data = kernel.T.contiguous()
        layer.bias.data = torch.from_numpy(arrays[f"bias_{i}"])
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers).eval().requires_grad_(False)


def prepare(args: argparse.Namespace) -> Region:
    """Returns the region: ``updates`` updates of one agent."""
    torch.set_num_threads(1)
    arrays = dict(np.load(args.files / "latent.npz"))
    decoder, score = read_decoder(arrays), Surrogate(args.files, args.path)
    make = lambda: LatentEnv(arrays["codebook"], decoder, score)
    agent = PPO(
        "MlpPolicy",
        DummyVecEnv([make] * NUM_ENVS),
        n_steps=NUM_STEPS,
        batch_size=NUM_ENVS * NUM_STEPS // 4,
        n_epochs=4,
        seed=args.seed,
        device="cpu",
    )
    steps = args.updates * NUM_ENVS * NUM_STEPS
    agent.learn(NUM_ENVS * NUM_STEPS)

    def region(_: None) -> float:
        agent.learn(steps, reset_num_timesteps=False)
        weights = agent.policy.parameters()
        return float(sum(w.detach().sum() for w in weights))

    return Region(region)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--path", choices=("inplace", "pandas"), default="inplace")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    packages = ("stable-baselines3", "torch", "xgboost-cpu", "gymnasium", "pandas")
    serve(
        lambda: prepare(args),
        name=f"sb3-ppo-latent-{args.path}",
        unit="environment step",
        units=args.updates * NUM_ENVS * NUM_STEPS,
        settings=json.loads(json.dumps(vars(args), default=str)),
        versions={name: version(name) for name in packages},
    )


if __name__ == "__main__":
    main()
