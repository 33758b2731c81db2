# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest

from mmdet_efficientps.structures.brush_masks import (
    decode_brush_mask,
    encode_brush_mask,
)


@pytest.mark.parametrize('shape', [(1, 1), (7, 9), (200, 300)])
@pytest.mark.parametrize('share', [0, 0.02, 0.5, 1])
def test_a_mask_comes_back(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    decoded = decode_brush_mask(encode_brush_mask(mask), *shape)
    np.testing.assert_array_equal(decoded, mask)


def test_the_code_is_that_of_label_studio():
    brush = pytest.importorskip(
        'label_studio_sdk.converter.brush',
        reason='needs label-studio-sdk: pip install label-studio-sdk',
    )
    mask = np.random.default_rng(0).random((20, 30)) < 0.3
    theirs = brush.mask2rle((255 * mask).astype(np.uint8))
    np.testing.assert_array_equal(decode_brush_mask(theirs, 20, 30), mask)
    decoded = brush.decode_rle(encode_brush_mask(mask)).reshape(20, 30, 4)
    np.testing.assert_array_equal(decoded[..., 3] > 0, mask)


def test_single_values_are_read_as_the_browser_writes_them():
    # 4 pixels: 16 values of 8 bits; lengths of 4 bits; a block of 16 single values.
    values = [0, 0, 0, 0, 9, 9, 9, 255, 0, 0, 0, 1, 0, 0, 0, 0]
    bits = f'{16:032b}' + f'{7:05b}' + '0011' * 4 + '0' + '00' + f'{15:04b}'
    bits += ''.join(f'{value:08b}' for value in values)
    bits += '0' * (-len(bits) % 8)
    code = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]
    assert decode_brush_mask(code, 2, 2).tolist() == [[False, True], [True, False]]
    with pytest.raises(ValueError, match='cut short'):
        decode_brush_mask(code[:-2], 2, 2)


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda code: code[:-2], 'cut short'),
        (lambda code: code[:3], 'cut short'),
        (lambda code: [], 'cut short'),
        (lambda code: [300], 'no list of bytes'),
        (lambda code: None, 'no list of bytes'),
        (lambda code: [255] * 30, 'differ in size'),
    ],
)
def test_damage_is_named(spoil, message):
    code = encode_brush_mask(np.random.default_rng(0).random((4, 5)) < 0.5)
    with pytest.raises(ValueError, match=message):
        decode_brush_mask(spoil(code), 4, 5)
