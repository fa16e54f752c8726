"""What is no architecture, spec or configuration of the AnalogNAS ResNet space is named."""

import copy
import json

import numpy as np
import pytest

from jaxnas import registry
from jaxnas.core.errors import UserError
from jaxnas.oracles.cost import count_costs
from jaxnas.spaces.analog_resnet import AnalogResNet

IBM, CSV = AnalogResNet("ibm"), AnalogResNet("csv")


@pytest.fixture(scope="module")
def row():
    """One architecture of several groups."""
    tokens = np.zeros(22, np.int32)
    tokens[:5] = 2, 2, 3, 0, 4
    tokens[7:16] = 1, 2, 3, 2, 4, 1, 1, 1, 4
    return tokens


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["nodes"][0]["attributes"].update(features=9),
        lambda s: s["nodes"].clear(),
        lambda s: s["blocks"].pop("group1_first"),
        lambda s: s["blocks"].update(group7=s["blocks"]["group1"]),
        lambda s: s["blocks"]["group1_first_branch"]["nodes"][0].update(op="conv"),
        lambda s: s["blocks"]["group1_first"]["nodes"].pop(),
    ],
)
def test_damaged_specs_are_refused(change, row):
    spec = json.loads(json.dumps(IBM.to_spec(row)))
    np.testing.assert_array_equal(IBM.from_spec(spec), row)
    change(spec)
    with pytest.raises(UserError, match="is no network of analog-resnet-ibm-v1"):
        IBM.from_spec(spec)


def test_specs_of_the_other_variant_are_refused(row):
    with pytest.raises(UserError, match="'analog-resnet-csv-v1' is needed"):
        CSV.from_spec(IBM.to_spec(row))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ["relu", "in"]}, r"'group1.block1.skip.conv_relu' \(conv\) needs one"),
        ({"op": "flatten"}, r"'group1.block1.skip.conv_shift' \(conv\) needs one image"),
        ({"kernel": 2}, r"'group1.block1.skip.concat' \(concat\) joins the channels"),
    ],
)
def test_new_operations_say_what_they_need(change, message, row):
    spec = copy.deepcopy(IBM.to_spec(row))
    skip = spec["blocks"]["group1_first_skip"]["nodes"]
    target = skip[1]["attributes"] if "kernel" in change else skip[1 + ("op" in change)]
    target.update(change)
    with pytest.raises(UserError, match=message):
        count_costs(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "imb"}, "Did you mean 'ibm'"),
        ({"channels": (8, 9)}, "Choose channels"),
        ({"channels": ()}, "Choose channels"),
        ({"types": "AC"}, "Choose types"),
        ({"widenings": (2.0,)}, "Choose widenings"),
        ({"groups": 5}, "has 1 to 4 groups"),
        ({"blocks": 0}, "has 1 to 15 blocks"),
        ({"branches": 5}, "has 1 to 4 branches"),
        ({"image": (11, 32, 3)}, "choose a smaller pool"),
        ({"num_classes": 0}, "at least 1"),
    ],
)
def test_impossible_spaces_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        registry.make_space("analog-resnet", **options)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 7, "Row 1 has out_channel0 = 7"),
        (0, np.nan, "Row 1 has out_channel0 = nan"),
        (1, 6, "Row 1 has M = 6"),
        (6, 2, r"Row 1 has R5 = 2, which .* does not allow with M = 1"),
        (7, 0, "Row 1 has convblock1 = 0"),
        (8, 2.5, "Row 1 has widenfact1 = 2.5"),
    ],
)
def test_rows_that_are_no_architecture_are_named(column, value, message):
    rows = np.zeros((2, 22))
    rows[:, [0, 1, 2, 7, 8, 9]] = 16, 1, 3, 1, 2, 2
    rows[1, column] = value
    with pytest.raises(UserError, match=message):
        CSV.tokens_from_features(rows)
    with pytest.raises(UserError, match="has 22 features, not 3"):
        CSV.tokens_from_features(rows[:, :3])
