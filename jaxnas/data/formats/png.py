"""PNG images of 8 bits a channel, read and written with zlib alone.

Reference: PNG specification (Third edition, W3C 2025), chunks in section 5 and filters in
section 9. Interlacing, palettes and other depths are refused.
"""

import struct
import zlib

import numpy as np

from jaxnas.core.errors import UserError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""Channels of the colour types grey, RGB, grey with alpha and RGBA."""


def decode(content: bytes, name: str) -> np.ndarray:
    """Returns ``uint8[H, W, C]``.

    Raises:
        UserError: not a PNG, damaged, or of a kind that is not read here.
    """
    header, packed = _chunks(content, name)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 8 or colour not in CHANNELS or interlaced:
        raise UserError(
            f"The image {name} has depth {depth}, colour type {colour} and interlacing "
            f"{interlaced}; save it with 8 bits a channel, no palette and no interlacing."
        )
    channels = CHANNELS[colour]
    try:
        data = zlib.decompress(packed)
    except zlib.error as error:
        raise UserError(f"The pixels of the image {name} are damaged.") from error
    if len(data) != height * (1 + width * channels):
        raise UserError(f"The image {name} has fewer or more pixels than its header says.")
    lines = np.frombuffer(data, np.uint8).reshape(height, -1)
    out = np.zeros((height + 1, width * channels), np.uint8)
    for row, line in enumerate(lines):
        if line[0] > 4:
            raise UserError(f"The image {name} has a row of the unknown filter {line[0]}.")
        out[row + 1] = _unfilter(int(line[0]), line[1:], out[row], channels)
    return out[1:].reshape(height, width, channels)


def _chunks(content: bytes, name: str) -> tuple[bytes, bytes]:
    """Returns the header and the joined pixel chunks, every checksum verified."""
    header, pixels, place = b"", [], len(SIGNATURE)
    if content[:place] != SIGNATURE:
        raise UserError(f"The image {name} is not a PNG file.")
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8]
        data = content[place + 8 : place + 8 + length]
        crc = content[place + 8 + length : place + 12 + length]
        if crc != struct.pack(">I", zlib.crc32(kind + data)):
            break
        if kind == b"IHDR":
            header = data
        elif kind == b"IDAT":
            pixels.append(data)
        elif kind == b"IEND" and len(header) == 13:
            return header, b"".join(pixels)
        place += 12 + length
    raise UserError(f"The image {name} is a truncated or damaged PNG file.")


def _unfilter(kind: int, line: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """Returns the pixels of one row; arithmetic is modulo 256."""
    if kind == 0:
        return line
    if kind == 1:  # sub: a running sum in each channel
        return np.cumsum(line.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
    if kind == 2:  # up
        return line + above
    raw, up, out = line.tolist(), above.tolist(), [0] * len(line)
    for i, value in enumerate(raw):
        left = out[i - step] if i >= step else 0
        if kind == 3:  # average
            guess = (left + up[i]) // 2
        else:
            guess = _paeth(left, up[i], up[i - step] if i >= step else 0)
        out[i] = (value + guess) & 255
    return np.array(out, np.uint8)


def _paeth(left: int, up: int, corner: int) -> int:
    """Returns whichever neighbour is nearest to left + up - corner, in that order."""
    to_left, to_up = abs(up - corner), abs(left - corner)
    to_corner = abs(left + up - 2 * corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


def encode(image: np.ndarray) -> bytes:
    """Returns ``uint8[H, W, C]`` with 1, 3 or 4 channels as a PNG file.

    Raises:
        UserError: another type, rank or number of channels.
    """
    colours = {1: 0, 3: 2, 4: 6}
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in colours:
        raise UserError(
            f"A PNG holds uint8[H, W, C] with 1, 3 or 4 channels, not "
            f"{image.dtype}{list(image.shape)}."
        )
    height, width, channels = image.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colours[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
