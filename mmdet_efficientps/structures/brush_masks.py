# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Masks as the brush of Label Studio keeps them, a code of run lengths of its own.

A mask is a picture of four channels (R, G, B, A), row after row, of which the last one
is the mask, 0 or 255. Its code, the format of the JavaScript package rle-pack, is a
list of bytes; read as bits, high ones first, they are

- 32 bits: number of values, 4 for each pixel,
- 5 bits: bits of a value, less 1,
- 4 times 4 bits: bits of the four kinds of lengths, less 1,
- blocks until all values are there. A block is one bit, 1 for a run and 0 for single
  values; two bits, which kind of length; that length, less 1; and for a run its value,
  else the values.
"""

from collections.abc import Sequence

import numpy as np

_BITS = 8
# Short runs are the many; the longest kind has all bits that a kind may have.
_LENGTH_BITS = (4, 8, 12, 16)
_LONGEST = 2 ** _LENGTH_BITS[-1]


def encode_brush_mask(mask: np.ndarray) -> list[int]:
    """Encode a mask for Label Studio.

    Example::

        >>> code = encode_brush_mask(np.array([[False, True]]))
        >>> decode_brush_mask(code, 1, 2)
        array([[False,  True]])

    Args:
        mask (np.ndarray): Shape (H, W), bool.

    Returns:
        list[int]: Bytes, 0..255.
    """
    flat = np.ascontiguousarray(mask, dtype=bool).ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    bits = [f'{4 * flat.size:032b}', f'{_BITS - 1:05b}']
    bits += [f'{length_bits - 1:04b}' for length_bits in _LENGTH_BITS]
    for start, pixels in zip(
        starts.tolist(), np.diff(starts, append=flat.size).tolist(), strict=True
    ):
        value = f'{255 * int(flat[start]):08b}'
        left = 4 * pixels
        while left:
            length = min(left, _LONGEST)
            left -= length
            kind = next(k for k, b in enumerate(_LENGTH_BITS) if length <= 2**b)
            bits.append(f'1{kind:02b}{length - 1:0{_LENGTH_BITS[kind]}b}{value}')
    text = ''.join(bits)
    ones = np.frombuffer(text.encode(), dtype=np.uint8) == ord('1')
    return np.packbits(ones).tolist()


def decode_brush_mask(code: Sequence[int], height: int, width: int) -> np.ndarray:
    """Decode a mask of Label Studio.

    Args:
        code (Sequence[int]): Bytes, 0..255.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.

    Returns:
        np.ndarray: Shape (H, W), bool: where the brush has painted, however faintly.

    Raises:
        ValueError: If it is no such code, is cut short, or of another size.
    """
    try:
        content = bytes(code)
    except (TypeError, ValueError) as error:
        raise ValueError('brush mask that is no list of bytes') from error
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8))
    place = 0

    def read(count: int) -> int:
        nonlocal place
        if place + count > len(bits):
            raise ValueError('brush mask that is cut short')
        place += count
        return int(''.join(map(str, bits[place - count : place].tolist())), 2)

    size, word = read(32), read(5) + 1
    length_bits = [read(4) + 1 for _ in range(4)]
    if size != 4 * height * width or word != _BITS:
        raise ValueError(
            f'brush mask and image differ in size: {size // 4} and {height * width} '
            'pixels'
        )
    values = np.zeros(size, dtype=np.uint8)
    done = 0
    while done < size:
        is_run = read(1)
        length = read(length_bits[read(2)]) + 1
        if done + length > size:
            raise ValueError('brush mask that is longer than its image')
        if is_run:
            values[done : done + length] = read(word)
        else:
            stop = place + length * word
            if stop > len(bits):
                raise ValueError('brush mask that is cut short')
            values[done : done + length] = np.packbits(bits[place:stop])
            place = stop
        done += length
    return values.reshape(height, width, 4)[..., 3] > 0
