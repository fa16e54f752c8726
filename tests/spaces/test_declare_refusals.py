"""What a space file can get wrong: one sentence with file, line and nearest name."""

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.declare import declare


def refused(tmp_path, text, suffix=".toml"):
    path = tmp_path / f"space{suffix}"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        declare(path)
    return str(caught.value)


HEAD = 'name = "mine"\n'
OP = '[[decisions]]\nname = "op"\nchoices = ["conv", "pool"]\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (HEAD + '[[decisions]]\nname = "op"\nchioces = [1]\n', 4, "Did you mean 'choices'"),
        (HEAD + "decisionz = []\n", 2, "Did you mean 'decisions'"),
        (HEAD + '[[decisions]]\nname = "op"\nchoices = []\n', 4, "at least one choice"),
        (HEAD + OP + OP, 5, "two decisions are called 'op'; the first is at space.toml"),
        (HEAD + OP + '[[decisions]]\nname = "k"\nchoices = [1]\nwhen = { po = 1 }\n', 8,
         "Did you mean 'op'"),
        (HEAD + OP + '[[decisions]]\nname = "k"\nchoices = [1]\nwhen = { op = "cnv" }\n', 8,
         "Did you mean 'conv'"),
        (HEAD + '[[decisions]]\nname = "a"\nchoices = [1]\nwhen = { b = 1 }\n'
         '[[decisions]]\nname = "b"\nchoices = [1]\nwhen = { a = 1 }\n', 2, "in a cycle"),
        (HEAD + OP + '[[forbid]]\nop = "coonv"\n', 6, "Did you mean 'conv'"),
        (HEAD + '[[decisions]]\nname = "op"\nchoices = [1, 2, 1]\n', 4, "stands twice"),
        (HEAD + '[[decisions]]\nname = "op"\nchoices = [[1]]\n', 4, "a choice is a text"),
        (HEAD + '[[decisions]]\nrepeat = "l"\nmost = 0\ndecisions = []\n', 2, "'most'"),
        (HEAD + '[[decisions]]\nname = "a"\nchoices = "earlier"\n', 4, "in no repeat"),
        (HEAD + OP + '[[network]]\nop = "convv"\n', 6, "Did you mean 'conv'"),
        (HEAD + OP + '[[network]]\nop = "relu"\nkernel = 3\n', 7, "Unknown key 'kernel'"),
        (HEAD + OP + '[[network]]\nop = "conv"\nkernel = "$kernl"\n', 7, "name 'kernl'"),
        (HEAD + OP + '[[network]]\nop = "conv"\nkernel = "$op * b"\n', 7, "no product"),
        (HEAD + OP + "[sizes]\nwidth = 0\n", 6, "a size is a whole number from 1"),
        (HEAD + OP + "[fixed]\nop = 1\n", 6, "is a decision already"),
        (HEAD + OP + '[[network]]\nrepeat = "layers"\nnodes = [{ op = "relu" }]\n', 6,
         "repeat 'layers'"),
        ('format = "jaxnas-space-2"\n' + HEAD + OP, 1, "upgrade jaxnas"),
        ("name = 3\n" + OP, 1, "a space needs a 'name'"),
        (HEAD + "version = 0\n" + OP, 2, "whole number from 1"),
    ],
)  # fmt: skip
def test_message_has_line_and_nearest(tmp_path, text, line, words):
    message = refused(tmp_path, text)
    assert message.startswith(f"space.toml, line {line}: ")
    assert words in message


def test_yaml_lines_and_doubles(tmp_path):
    text = "name: mine\ndecisions:\n  - name: op\n    chioces: [1]\n"
    assert refused(tmp_path, text, ".yaml").startswith("space.yaml, line 4: ")
    double = "name: mine\nname: other\ndecisions: []\n"
    assert "line 2: 'name' stands twice" in refused(tmp_path, double, ".yaml")
    assert "not YAML" in refused(tmp_path, "name: [", ".yaml")
    bomb = "a: &a [1]\n" + "".join(
        f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else '*a'] * 9)}]\n" for i in range(9)
    )
    assert "nested too deep or repeats" in refused(tmp_path, bomb, ".yaml")
    harmful = "name: !!python/object/apply:os.system ['true']\n"
    assert "not YAML" in refused(tmp_path, harmful, ".yaml")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("missing.toml", None, "cannot be read"),
        ("a.txt", b"name = 1", "must end in"),
        ("a.toml", b"\xff\xfe", "not text in UTF-8"),
        ("a.toml", b"name = ", "not TOML"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b"[1]", "holds no table"),
        ("a.yaml", b"- 1", "holds no table"),
        ("a.toml", b"#" * 300_000, "larger than"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, data, words):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words):
        declare(tmp_path / name)


def test_dicts_have_places():
    with pytest.raises(UserError, match=r"the space at decisions\[1\].chioces"):
        declare({"name": "a", "decisions": [{"name": "b", "choices": [1]},
                                            {"name": "c", "chioces": [1]}]})  # fmt: skip
    with pytest.raises(UserError, match="finite numbers"):
        declare({"name": "a", "decisions": [{"name": "b", "choices": [float("nan")]}]})


def test_decisions_that_hang_together_too_much():
    many = [{"name": f"d{i}", "choices": list(range(10))} for i in range(8)]
    forbid = [{f"d{i}": 0 for i in range(8)}]
    with pytest.raises(UserError, match="depends on d0, d1"):
        declare({"name": "tangle", "decisions": many, "forbid": forbid})


def test_nothing_left():
    decisions = [{"name": "a", "choices": [1, 2]}]
    with pytest.raises(UserError, match="no architecture"):
        declare({"name": "none", "decisions": decisions, "forbid": [{"a": [1, 2]}]})


def test_unreachable_decisions_are_warned_about():
    document = {
        "name": "far",
        "decisions": [
            {"name": "a", "choices": [1, 2]},
            {"name": "b", "choices": [1, 2], "when": {"a": 1}},
        ],
        "forbid": [{"a": 1}],
    }
    warnings = declare(document).warnings()
    assert "The decision 'b' can never be reached." in warnings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"op": "conv"}, "'kernel' cannot be no value"),
        ({"op": "pool", "kernel": 1}, "'kernel' cannot be 1"),
        ({"kernel": 1}, "'op' is missing"),
        ({"op": "conv", "kernl": 1}, "Did you mean 'kernel'"),
        ({"op": "conv", "kernel": 2}, "value of 'kernel'"),
        ({"op": "conv", "kernel": True}, "value of 'kernel'"),
    ],
)
def test_architectures_that_are_none(values, words):
    space = declare({"name": "m", "decisions": [
        {"name": "op", "choices": ["conv", "pool"]},
        {"name": "kernel", "choices": [1, 3], "when": {"op": "conv"}}]})  # fmt: skip
    with pytest.raises(UserError, match=words):
        space.from_dict(values)


def test_a_block_whose_output_no_node_makes():
    document = {
        "name": "m",
        "decisions": [{"name": "a", "choices": [1, 2]}],
        "blocks": {"b": {"nodes": [{"name": "x", "op": "relu"}], "output": "y"}},
        "network": [{"op": "b"}, {"op": "global_avg_pool"}],
    }
    with pytest.raises(UserError, match="input 'y'"):
        declare(document).to_spec(np.zeros(1, np.int32))
