"""The reader of torch checkpoints: the same numbers as torch, and no code is run."""

import hashlib
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.formats import torch_file

# SHA-256 over name and bytes of each tensor in the order of the names, and of the bytes of
# the codebook, computed once with torch 2.13.0: torch.load(path, weights_only=True).
DECODER = "cce47c32ef9670a15af2c582e97467610f45372560292b193e6439275017ca5f"
CODEBOOK = "b52b1658149fa9abf2f8ccf9bc8febe7ea1d8666ec3a87b5fef62bfa5fbef555"


def test_the_ancestors_files_hold_what_torch_reads(shared_folder):
    state = torch_file.read(shared_folder / "vqvae_decoder_model.pth")
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].tobytes())
    assert digest.hexdigest() == DECODER
    codes = torch_file.read(shared_folder / "vqvae_codebook.pth")
    assert codes.shape == (14, 8)
    assert hashlib.sha256(codes.tobytes()).hexdigest() == CODEBOOK


class Global:
    """Pickles as a global of any name, without importing it."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Reference:
    """Pickles as a persistent reference to a storage."""

    def __init__(self, kind, key, count):
        self.value = ("storage", kind, key, "cpu", count)


class Call:
    """Pickles as a call of a global."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Writer(pickle._Pickler):
    """Writes what torch writes, and what an attacker would."""

    def persistent_id(self, obj):
        return obj.value if isinstance(obj, Reference) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


FLOATS = Global("torch", "FloatStorage")
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def tensor(shape=(2, 3), stride=(3, 1), offset=0, count=6, kind=FLOATS, key="0"):
    return Call(REBUILD, Reference(kind, key, count), offset, shape, stride, False, None)


SIX = np.arange(6, dtype="<f4")


def checkpoint(tmp_path, content, storage=SIX, **members):
    """A file in torch's format, with its pickle or with any bytes in its place."""
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        Writer(buffer, protocol=2).dump(content)
        content = buffer.getvalue()
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", content)
        archive.writestr("m/data/0", storage.tobytes())
        for name, data in members.items():
            archive.writestr(f"m/{name}", data)
    return path


def test_shapes_strides_and_offsets(tmp_path):
    content = {
        "plain": tensor(),
        "transposed": tensor((3, 2), (1, 3)),
        "part": tensor((2,), (2,), offset=1),
        "scalar": tensor((), (), offset=5),
        "empty": tensor((0, 3), (3, 1)),
    }
    found = torch_file.read(checkpoint(tmp_path, content))
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(found["plain"], plain)
    np.testing.assert_array_equal(found["transposed"], plain.T)
    np.testing.assert_array_equal(found["part"], [1, 3])
    assert found["scalar"] == 5
    assert found["empty"].shape == (0, 3)
    whole = np.arange(6, dtype="<i8")
    ints = tensor(kind=Global("torch", "LongStorage"))
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), ints, True, {})
    read = torch_file.read(checkpoint(tmp_path, [parameter], whole))
    np.testing.assert_array_equal(read[0], plain.astype(np.int64))


@pytest.mark.parametrize(
    "bad",
    [
        tensor((3, 3), (3, 1)),
        tensor(offset=1),
        tensor((2,), (-1,), offset=1),
        tensor((10**9,), (0,)),
        tensor((2, 3), (3,)),
        tensor(count=7),
        tensor(key="../secret"),
        tensor(key="9"),
        Call(REBUILD, "text", 0, (1,), (1,)),
        Reference("text", "0", 6),
    ],
    ids=[
        "long",
        "offset",
        "negative",
        "bomb",
        "ranks",
        "count",
        "path",
        "absent",
        "text",
        "kind",
    ],
)
def test_claims_that_the_storage_does_not_bear_out_are_refused(tmp_path, bad):
    with pytest.raises(UserError, match="get the checkpoint again"):
        torch_file.read(checkpoint(tmp_path, bad))


def test_code_is_refused_before_it_runs(tmp_path):
    """The first would leave a marker under ``pickle.loads``, as is seen."""
    marker = tmp_path / "ran"
    attacks = [
        Call(Global(os.system.__module__, "system"), f"touch {marker}"),
        Call(Global("builtins", "eval"), f"open({str(marker)!r}, 'w')"),
        Call(Global("torch", "load"), "x"),
        Call(Global("torch._utils", "_rebuild_tensor_v2.__globals__"), "x"),
        Call(Global("numpy", "load"), "x"),
        {
            "weight": tensor(),
            "more": [Call(Global("builtins", "exec"), "raise SystemExit")],
        },
    ]
    buffer = io.BytesIO()
    Writer(buffer, protocol=2).dump(attacks[0])
    pickle.loads(buffer.getvalue())
    assert marker.exists()
    marker.unlink()
    for attack in attacks:
        with pytest.raises(UserError, match="no reason to do; it was not loaded"):
            torch_file.read(checkpoint(tmp_path, attack))
        assert not marker.exists()


@pytest.mark.parametrize("name", ["torch FloatStorage", "torch._utils _rebuild_tensor_v2"])
def test_a_file_cannot_change_what_the_next_file_gets(tmp_path, name):
    """BUILD sets attributes; the stand-ins that all files share have none to set."""
    build = (
        f"c{name.replace(' ', chr(10))}\n".encode()
        + b"}X\x05\x00\x00\x00dtypeX\x02\x00\x00\x00i4sb."
    )
    with pytest.raises(UserError, match="get the checkpoint again"):
        torch_file.read(checkpoint(tmp_path, build))
    found = torch_file.read(checkpoint(tmp_path, tensor()))
    np.testing.assert_array_equal(found, np.arange(6, dtype=np.float32).reshape(2, 3))


def test_other_files_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        torch_file.read(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="cannot be read"):
        torch_file.read(tmp_path)
    path = tmp_path / "m.pth"
    for content in (b"", b"text", pickle.dumps({"a": 1})):
        path.write_bytes(content)
        with pytest.raises(UserError, match="no zip archive"):
            torch_file.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/other", b"")
    with pytest.raises(UserError, match=r"holds no data\.pkl"):
        torch_file.read(path)
    with pytest.raises(UserError, match="big-endian"):
        torch_file.read(checkpoint(tmp_path, tensor(), byteorder=b"big"))
    whole = checkpoint(tmp_path, tensor()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="zip archive"):
        torch_file.read(path)
