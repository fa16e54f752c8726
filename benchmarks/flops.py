"""FLOPs of the timed programs by formula: a multiply-add is two, only products count."""

import itertools


def forward(*layers: tuple[int, int]) -> int:
    """Returns the FLOPs of one sample through dense layers ``(inputs, outputs)``."""
    return sum(2 * inputs * outputs for inputs, outputs in layers)


def cartpole_ppo(
    envs: int = 4,
    steps: int = 128,
    epochs: int = 4,
    hidden: int = 64,
    features: int = 4,
    actions: int = 2,
) -> int:
    """Returns the FLOPs of one PPO update of one agent, rollout included.

    Separate actor and critic with two hidden layers. The rollout runs the actor on every
    step and the critic on every step and once more; each epoch runs both forward and
    backward on every sample, the backward pass being twice the forward one without the
    gradient of the observations.
    """
    body = ((features, hidden), (hidden, hidden))
    actor, critic = forward(*body, (hidden, actions)), forward(*body, (hidden, 1))
    samples = envs * steps
    rollout = samples * actor + (samples + envs) * critic
    observations = 2 * forward((features, hidden))
    return rollout + epochs * samples * (3 * (actor + critic) - observations)


def token_lstm(batch: int = 8, length: int = 12, hidden: int = 64, vocab: int = 5) -> int:
    """Returns the FLOPs of one REINFORCE update of one LSTM controller.

    A token enters as a learned row, which is no product. Sampling is the forward pass that
    the gradient needs, so it is counted once; the backward pass is twice that.
    """
    return 3 * batch * length * forward((hidden, 4 * hidden), (hidden, vocab))


def latent_decoder() -> int:
    """Returns the FLOPs of decoding one latent vector: the original's seven layers."""
    widths = (8, 512, 256, 128, 64, 32, 16, 22)
    return forward(*itertools.pairwise(widths))
