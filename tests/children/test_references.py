"""Networks that people draw: any image, the counts of a hand calculation, other widths."""

import jax
import jax.numpy as jnp
import pytest

from jaxnas.children.build import build
from jaxnas.children.count import count_costs
from jaxnas.children.references import REFERENCES, reference
from jaxnas.core.errors import UserError

IMAGES = [(8, 8, 1), (1, 1, 3), (7, 5, 2), (1, 9, 1), (3, 3, 1), (33, 20, 3)]


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("image", IMAGES)
def test_any_image_becomes_logits(name, image):
    child = build(reference(name, image, 5, 4))
    x = jnp.zeros((2, *image))
    shape = jax.eval_shape(child.init_with_output, jax.random.key(0), x)[0].shape
    assert shape == (2, 5)


def conv(inputs, outputs, kernel=3):
    return kernel * kernel * inputs * outputs + 2 * outputs  # batch norm: scale, shift


def test_parameters_are_those_of_a_hand_calculation():
    image, w = (8, 8, 3), 16
    vgg = conv(3, w) + conv(w, w) + conv(w, 2 * w) + conv(2 * w, 2 * w)
    vgg += 2 * 2 * 2 * w * 128 + 128 + 128 * 10 + 10  # two poolings leave 2 x 2 pixels
    resnet = conv(3, w) + 2 * conv(w, w)
    for i, o in ((w, 2 * w), (2 * w, 4 * w)):
        resnet += conv(i, o) + conv(o, o) + conv(i, o, 1)
    resnet += 4 * w * 10 + 10
    plain = conv(3, w) + conv(w, 2 * w) + conv(2 * w, 4 * w) + 4 * w * 10 + 10
    expected = {"VGG-like": vgg, "ResNet-like": resnet, "hand-made CNN": plain}
    found = {name: count_costs(reference(name, image, 10)).params for name in REFERENCES}
    assert found == expected


def test_large_images_are_reduced_before_the_dense_layer():
    spec = reference("VGG-like", (128, 128, 3), 10, 2)
    assert sum(node["op"] == "max_pool" for node in spec["nodes"]) == 4


def test_no_width_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        reference("VGG-like", (8, 8, 1), 10, 0)
