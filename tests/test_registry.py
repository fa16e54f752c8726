"""Names: what is registered can be made, and a plug-in needs no edit here."""

import importlib.metadata
import json

import pytest

from jaxnas import registry
from jaxnas.core.errors import UserError
from jaxnas.registry import make_space


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, n) for kind, table in registry.TABLES.items() for n in table]
)
def test_every_name_can_be_imported_and_described(kind, name):
    assert callable(registry.lookup(kind, name))
    line = registry.describe(kind, name)
    assert line.endswith(".")
    assert len(line) < 110


@pytest.mark.parametrize("kind", registry.TABLES)
def test_unknown_names_get_the_nearest_one(kind):
    name = next(iter(registry.TABLES[kind]))
    with pytest.raises(UserError, match=f"Did you mean '{name}'"):
        registry.lookup(kind, name[:-1] + "_")


def test_unknown_options_are_named():
    space = registry.make_space("toy")
    with pytest.raises(UserError, match="'population'"):
        registry.make_algorithm("evolution", space=space, populaton=3)
    with pytest.raises(UserError, match="needs the option 'space'"):
        registry.make_algorithm("evolution")
    with pytest.raises(UserError, match="sample"):
        registry.make_algorithm("evolution", space=space, sample=99)


def test_entry_points_add_names(monkeypatch):
    class Point:
        name, value = "my-space", "jaxnas.spaces.toy:Toy"

    registry._plugins.cache_clear()
    found = lambda group: [Point] if group == "jaxnas.spaces" else []
    monkeypatch.setattr(importlib.metadata, "entry_points", found)
    assert "my-space" in registry.names("space")
    assert registry.make_space("my-space", length=3).length == 3
    registry._plugins.cache_clear()


def test_a_made_object_remembers_its_recipe():
    oracle = registry.make_oracle("analog-nasbench", objective="digital", noise="stored")
    name, options = registry.recipe(oracle)
    again = registry.make_oracle(name, **options)
    assert again == oracle
    assert hash(again) == hash(oracle)


def test_options_from_json_make_the_same_object():
    """A run writes options down as JSON, which has lists only."""
    written = json.loads(json.dumps({"image": (8, 8, 1), "pool": 4, "channels": (8, 16)}))
    made = make_space("analog-resnet", **written)
    assert made == make_space("analog-resnet", image=(8, 8, 1), pool=4, channels=(8, 16))
    assert registry.recipe(made) is not None
