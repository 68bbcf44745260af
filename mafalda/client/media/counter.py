"""A frame's number, written into its picture so that a machine can read it after any video codec.

The upper half of the picture holds 24 big blocks, black or white: 16 bits of the number and 8 of a
checksum. Only the middle of each block is read, so that blur at the edges does no harm; positions
are relative, so that a scaled picture can be read as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]

COLUMNS, ROWS = 8, 3
NUMBER_BITS, CHECK_BITS = 16, 8
MAX_NUMBER = (1 << NUMBER_BITS) - 1

#: The blocks fill the width and this part of the height.
HEIGHT_RATIO = 0.5
BLACK, WHITE = 16, 235  # limited range, as video codecs have it
_MIDDLE = (BLACK + WHITE) / 2


def write_number(luma: Luma, number: int) -> None:
    """Paint ``number`` into the upper half of a luma plane.

    Args:
        luma: Height x width, 0 to 255; changed in place. At least 64 x 48.
        number: 0 to ``MAX_NUMBER``.
    """
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"a frame number has {NUMBER_BITS} bits, {number} has not")
    word = (number << CHECK_BITS) | _checksum(number)
    for bit in range(COLUMNS * ROWS):
        top, bottom, left, right = _block(luma, bit)
        luma[top:bottom, left:right] = WHITE if word >> (COLUMNS * ROWS - 1 - bit) & 1 else BLACK


def read_number(luma: Luma) -> int | None:
    """The number in a decoded picture's luma plane; ``None`` if the checksum does not fit."""
    word = 0
    for bit in range(COLUMNS * ROWS):
        top, bottom, left, right = _block(luma, bit)
        inset_y, inset_x = (bottom - top) // 4, (right - left) // 4
        middle = luma[top + inset_y : bottom - inset_y, left + inset_x : right - inset_x]
        word = word << 1 | int(middle.mean() > _MIDDLE)
    number, check = word >> CHECK_BITS, word & (1 << CHECK_BITS) - 1
    return number if check == _checksum(number) else None


def _block(luma: Luma, bit: int) -> tuple[int, int, int, int]:
    height, width = int(luma.shape[0] * HEIGHT_RATIO), luma.shape[1]
    row, column = divmod(bit, COLUMNS)
    return (
        row * height // ROWS,
        (row + 1) * height // ROWS,
        column * width // COLUMNS,
        (column + 1) * width // COLUMNS,
    )


def _checksum(number: int) -> int:
    """CRC-8 (polynomial 0x07) of both bytes, inverted: an all-black picture must not be a valid zero."""
    crc = 0
    for byte in number.to_bytes(2, "big"):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc ^ 0xFF
