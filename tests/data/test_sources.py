"""The two real sources: read without import, converted as documented."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.formats.npz import content_checksum
from jaxnas.data.recipes import source_bytes
from jaxnas.data.tables import analog_nasbench, nb201


def test_reading_imports_neither_package():
    """Their imports need modules that current installations lack, or read 70 MB."""
    code = (
        "import sys\n"
        "from jaxnas.data.tables import analog_nasbench, nb201\n"
        "print(len(analog_nasbench.table().scores), len(nb201.table().scores))\n"
        "print([m for m in sys.modules if 'analognasbench' in m or 'hpo_bench' in m\n"
        "       or m == 'pandas'])\n"
    )
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert out.split("\n")[:2] == ["15625 15625", "[]"]


@pytest.mark.parametrize("source", [analog_nasbench, nb201])
def test_conversion_gives_the_pinned_numbers(source):
    arrays = source.convert(source_bytes(source.RECIPE))
    assert content_checksum(arrays) == source.RECIPE.content_sha256


def test_a_wheel_with_missing_or_strange_records_is_refused():
    file = analog_nasbench.FILE
    for content in ({}, {(0,) * 6: 1}, [1, 2]):
        with pytest.raises(UserError, match=file):
            analog_nasbench.convert({file: pickle.dumps(content)})
    contents = {name: pickle.dumps({}) for name, _ in nb201.RECIPE.files}
    with pytest.raises(UserError, match="lacks rows"):
        nb201.convert(contents)


def test_string_order_of_the_other_table():
    """1->2 conv3x3, 1->3 skip, 2->3 pool, 1->4 none, 2->4 conv1x1, 3->4 conv3x3."""
    assert nb201.string_key((2, 0, 1, 4, 3, 2)) == "314023"


def test_seed_means_and_spread():
    """2 or 3 seeds each; the mean and the deviation are those of the seeds there are."""
    table = nb201.table()
    column = [m.name for m in table.metrics].index("cifar100")
    seeds = table.per_seed["cifar100"]
    counts = np.isfinite(seeds).sum(axis=1)
    assert sorted(np.unique(counts, return_counts=True)[1].tolist()) == [7_456, 8_169]
    row = int(np.flatnonzero(counts == 2)[0])
    mean, spread = np.mean(seeds[row, :2]), np.std(seeds[row, :2], ddof=1)
    assert table.scores[row, column] == pytest.approx(mean)
    assert table.spread[row, column] == pytest.approx(spread)


def test_204_rows_have_a_seed_of_another_size():
    """So the size is taken from the second seed; see docs/decisions/0006-data.md."""
    (file, _), *_ = nb201.RECIPE.files
    rows = nb201.loads(source_bytes(nb201.RECIPE)[file], file)
    sizes = [np.rint(np.array(row["model_size"]) * 1e6) for row in rows.values()]
    odd = [s - s[nb201.SIZE_SEED] for s in sizes if np.ptp(s)]
    assert len(odd) == 204
    assert set(np.abs(np.concatenate(odd)).tolist()) == {0, 28_000, 243_040}
