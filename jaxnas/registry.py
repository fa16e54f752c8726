"""The one place where names meet code: strings only, imported on first use.

Adding a space, an oracle, an environment, a controller, an algorithm, images or texts is
one file and one line here. Packages elsewhere add theirs through the entry-point groups
``jaxnas.spaces``, ``jaxnas.oracles``, ``jaxnas.envs``, ``jaxnas.controllers``,
``jaxnas.algorithms``, ``jaxnas.images`` and ``jaxnas.texts``, whose values have the same
``"module:attribute"`` form.
"""

import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from jaxnas.core.algorithm import Algorithm
from jaxnas.core.errors import UserError, unknown_name
from jaxnas.core.oracle import Oracle
from jaxnas.core.ranges import check_hparams, check_option
from jaxnas.core.space import SearchSpace

SPACES = {
    "toy": "jaxnas.spaces.toy:Toy",
    "nb201": "jaxnas.spaces.nb201:NB201",
    "nb201-residual": "jaxnas.spaces.nb201_residual:NB201Residual",
    "analog-resnet": "jaxnas.spaces.analog_resnet:AnalogResNet",
    "vocab": "jaxnas.spaces.shipped:vocab",
    "zoph-cnn": "jaxnas.spaces.shipped:zoph_cnn",
    "chain": "jaxnas.spaces.shipped:chain",
    "hierarchical": "jaxnas.spaces.shipped:hierarchical",
    "text-chain": "jaxnas.spaces.shipped:text_chain",
    "grown": "jaxnas.spaces.grown:Grown",
}
ORACLES = {
    "toy": "jaxnas.oracles.toy:ToyOracle",
    "analog-nasbench": "jaxnas.oracles.table:analog_nasbench",
    "nb201-table": "jaxnas.oracles.table:nb201_table",
    "digits-cells": "jaxnas.oracles.table:digits_cells",
    "fashion-cells": "jaxnas.oracles.table:fashion_cells",
    "digits-resnets": "jaxnas.surrogates.resnets:digits_resnets",
    "cost": "jaxnas.oracles.cost:CostOracle",
    "surrogate": "jaxnas.surrogates.open:surrogate",
    "child": "jaxnas.oracles.child:ChildOracle",
    "analog": "jaxnas.oracles.analog:AnalogOracle",
    "table": "jaxnas.oracles.user_table:table",
    "function": "jaxnas.oracles.function_file:from_file",
    "grown": "jaxnas.oracles.grown:GrownOracle",
}
ENVS = {
    "tokens": "jaxnas.envs.tokens:TokenEnv",
    "latent": "jaxnas.envs.latent:LatentEnv",
    "latent-continuous": "jaxnas.envs.latent:ContinuousLatentEnv",
    "grown": "jaxnas.envs.grown:GrownEnv",
}
CONTROLLERS = {
    "mlp": "jaxnas.controllers.mlp:MLP",
    "lstm": "jaxnas.controllers.recurrent:LSTM",
    "gru": "jaxnas.controllers.recurrent:GRU",
    "attention": "jaxnas.controllers.attention:CausalAttention",
}
ALGORITHMS = {
    "random": "jaxnas.algorithms.random_search:RandomSearch",
    "local-search": "jaxnas.algorithms.local_search:LocalSearch",
    "evolution": "jaxnas.algorithms.regularized_evolution:RegularizedEvolution",
    "nsga2": "jaxnas.algorithms.nsga2:NSGA2",
    "model-based": "jaxnas.algorithms.model_based:ModelBased",
    "analog-ea": "jaxnas.algorithms.analog_ea:AnalogEA",
    "reinforce": "jaxnas.algorithms.reinforce:Reinforce",
    "a2c": "jaxnas.algorithms.a2c:A2C",
    "ppo": "jaxnas.algorithms.ppo:PPO",
    "ppo-replay": "jaxnas.algorithms.ppo_replay:PPOReplay",
    "dyna-ppo": "jaxnas.algorithms.dyna_ppo:DynaPPO",
    "latent-reinforce": "jaxnas.algorithms.latent_search:LatentReinforce",
    "latent-a2c": "jaxnas.algorithms.latent_search:LatentA2C",
    "latent-ppo": "jaxnas.algorithms.latent_search:LatentPPO",
}
IMAGES = {
    "digits": "jaxnas.data.images.digits:Digits",
    "mnist-5k": "jaxnas.data.images.digits:Mnist5k",
    "animals": "jaxnas.data.images.animals:Animals",
    "textures": "jaxnas.data.images.textures:Textures",
    "fashion-confusable": "jaxnas.data.images.fashion:FashionConfusable",
    "fashion-8x8": "jaxnas.data.images.fashion:Fashion8x8",
    "fashion-mnist": "jaxnas.data.images.fashion:FashionMnist",
}
TEXTS = {"vader-sign": "jaxnas.data.texts.vader:VaderSign"}
TABLES = {
    "space": SPACES,
    "oracle": ORACLES,
    "env": ENVS,
    "controller": CONTROLLERS,
    "algorithm": ALGORITHMS,
    "image": IMAGES,
    "text": TEXTS,
}


@functools.cache
def _plugins(kind: str) -> dict[str, str]:
    found = importlib.metadata.entry_points(group=f"jaxnas.{kind}s")
    return {point.name: point.value for point in found}


def names(kind: str) -> list[str]:
    """Returns every registered name of a kind, built in first, then plug-ins."""
    return list(TABLES[kind]) + [n for n in _plugins(kind) if n not in TABLES[kind]]


def lookup(kind: str, name: str) -> Callable[..., Any]:
    """Returns the class or factory behind a name; imports its module now.

    Raises:
        UserError: no such name; the text gives the nearest one.
    """
    target = TABLES[kind].get(name) or _plugins(kind).get(name)
    if target is None:
        raise unknown_name(kind, name, names(kind))
    return _load(target)


def _load(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def describe(kind: str, name: str) -> str:
    """Returns the first line of the docstring of what a name stands for."""
    return (inspect.getdoc(lookup(kind, name)) or "").partition("\n")[0]


IDENTITY = ("id", "objectives", "traced")
"""What an object says that it is, and nobody sets by name."""


def settable(kind: str, name: str) -> dict[str, inspect.Parameter]:
    """Returns what can be set of something registered, by name, without its identity."""
    known = inspect.signature(lookup(kind, name)).parameters
    return {option: p for option, p in known.items() if option not in IDENTITY}


def make(kind: str, name: str, **options: Any) -> Any:
    """Returns ``lookup(kind, name)(**options)`` with unknown options refused by name.

    Lists count as tuples: options that were written down as JSON make the same object.

    Raises:
        UserError: an unknown name, an option it does not take, or a value it refuses.
    """
    target, known = lookup(kind, name), settable(kind, name)
    options = {option: _frozen(value) for option, value in options.items()}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
    for option in options:
        if option not in known and (option in IDENTITY or not open_ended):
            raise unknown_name(f"option of {kind} {name!r}:", option, known)
    for option, parameter in known.items():
        plain = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if plain and parameter.default is parameter.empty and option not in options:
            raise UserError(f"The {kind} {name!r} needs the option {option!r}.")
        elif option in options:
            what = f"The option {option!r} of {kind} {name!r}"
            check_option(what, parameter.annotation, options[option])
    check_hparams(target, options, f"The {kind} {name!r}: ")
    try:
        made = target(**options)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"The {kind} {name!r} refused its options: {error}") from error
    if isinstance(made, Hashable):
        _RECIPES[made] = (name, dict(options))
    return made


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


_RECIPES: dict[Any, tuple[str, dict[str, Any]]] = {}


def recipe(made: Any) -> tuple[str, dict[str, Any]] | None:
    """Returns the name and the options that an object was made from, if it was made here.

    A run writes them down, so that a report can make the same oracle again.
    """
    return _RECIPES.get(made) or getattr(made, "recipe", None)


SPACE_FILES = (".toml", ".yaml", ".yml", ".json")
DECLARED = "declared"
"""Name of a space that is written down as data, in the record of a run."""


def make_space(name: str, **options: Any) -> SearchSpace:
    """Returns a search space by name, for example ``make_space("nb201")``.

    Args:
        name: a registered space, or the path of a space file (see
            :func:`jaxnas.spaces.declare.declare`).
        **options: the space's own, such as ``image`` and ``num_classes``.

    Raises:
        UserError: an unknown name or option, or what is wrong with the file.
    """
    if name == DECLARED or name.endswith(SPACE_FILES):
        declared = _load("jaxnas.spaces.declare:from_options")
        return declared(name, **{option: _frozen(v) for option, v in options.items()})
    return make("space", name, **options)


def make_oracle(
    name: str,
    *,
    space: SearchSpace | None = None,
    noise: str = "none",
    constraints: Sequence[str] = (),
    **options: Any,
) -> Oracle:
    """Returns an oracle by name, for example ``make_oracle("analog-nasbench")``.

    Args:
        name: a registered oracle.
        space: the space to score; the oracle's own when None.
        noise: ``"none"`` for recorded means, ``"stored"`` or ``"resample"`` for readings
            drawn with the recorded spread (see :class:`jaxnas.oracles.noise.Noisy`).
        constraints: such as ``"params<=1e6"``, over metrics of the oracle or of ``cost``.
        **options: the oracle's own, such as ``objective="analog_1month"``. Behind the
            oracle's own metrics may stand exact costs: ``"analog_1month,params,energy"``.

    Raises:
        UserError: an unknown name or option, or something that the oracle cannot do.
    """
    if space is not None:
        options["space"] = space
    oracle = wrapped = _with_costs(name, options)
    if constraints:
        constrain = _load("jaxnas.oracles.combine:constrained")
        wrapped = constrain(wrapped, tuple(constraints))
    if noise != "none":
        wrapped = _load("jaxnas.oracles.noise:Noisy")(wrapped, noise)
    if wrapped is not oracle:
        extra = {"noise": noise, "constraints": tuple(constraints)}
        _RECIPES[wrapped] = (name, {**options, **extra})
    return wrapped


def _with_costs(name: str, options: dict[str, Any]) -> Oracle:
    """Returns an oracle whose objectives may end with costs of the oracle ``cost``."""
    objective = options.get("objective")
    if not (isinstance(objective, str) and "," in objective):
        return make("oracle", name, **options)
    rest = {option: value for option, value in options.items() if option != "objective"}
    one = lambda own: make("oracle", name, objective=own, **rest)
    oracle = _load("jaxnas.oracles.combine:with_costs")(one, objective)
    _RECIPES.setdefault(oracle, (name, dict(options)))
    return oracle


def table_oracle(file: Any, space: SearchSpace | None = None, **options: Any) -> Oracle:
    """Returns the oracle of a table of results, ``table_oracle("r.csv", objective="acc")``.

    Args:
        file: path of a CSV, npz or parquet file.
        space: of its architectures; the rows are the space when None.
        **options: as :func:`jaxnas.oracles.user_table.table` takes them.

    Raises:
        UserError: what is wrong with the file, with line and column.
    """
    return make_oracle("table", space=space, file=str(file), **options)


def make_algorithm(name: str, **options: Any) -> Algorithm:
    """Returns an algorithm by name, for example ``make_algorithm("ppo", space=space)``."""
    return make("algorithm", name, **options)


def make_controller(name: str, **options: Any) -> Any:
    """Returns a controller module by name."""
    return make("controller", name, **options)


def make_env(name: str, *, oracle: Oracle | None = None, **options: Any) -> Any:
    """Returns an environment by name, for example ``make_env("tokens", oracle=oracle)``.

    ``env.reset(key)`` gives ``(state, timestep)`` and so does ``env.step(key, state,
    action)``; both are pure, and ``jax.vmap`` over them makes many environments. A last
    argument ``params``, ``env.params()`` by default, names another task.

    Args:
        name: a registered environment.
        oracle: pays the rewards; without one they are zero.
        **options: the environment's own, such as ``space``, which is the oracle's where
            there is one; and with an oracle ``reward``, ``penalty`` and ``weights``, as
            :func:`jaxnas.envs.change.scored` takes them.

    Raises:
        UserError: an unknown name or option, or an oracle that cannot pay.
    """
    known = inspect.signature(lookup("env", name)).parameters
    if oracle is None or "oracle" in known:
        own = {} if oracle is None else {"oracle": oracle}
        return make("env", name, **options, **own)
    names = [n for n in ("reward", "penalty", "weights") if n in options and n not in known]
    paying = {n: _frozen(options.pop(n)) for n in names}
    if "space" in known:
        options.setdefault("space", oracle.space)
    scored = _load("jaxnas.envs.change:scored")
    return scored(make("env", name, **options), oracle, **paying)
