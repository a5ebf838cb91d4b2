"""One stored image as red, green and blue bytes, whatever it is stored as, and of the size that is asked for."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from torch import Generator

from rheobase.data.reasons import reason
from rheobase.data.rows import Rows

__all__ = ["decode", "fit", "random_part"]

_ACCEPTED = "what Pillow reads"
_AREA, _RATIO = 0.08, (3 / 4, 4 / 3)


def decode(rows: Rows, row: int, value: Any) -> Any:
    """The image of a row, as a Pillow image of mode RGB.

    Raises:
        DataError: It is none, damaged, or of numbers whose largest is not known.
    """
    from PIL import Image

    content = rows.stored(row, value, _ACCEPTED)
    try:
        with Image.open(io.BytesIO(content)) as file:
            image = _colours(file)
    except Exception as error:  # Pillow's many formats raise what they like on damaged files
        problem = f"not an image, or damaged ({reason(error)})"
        raise rows.damaged(row, value, problem, _ACCEPTED) from error
    if image is None:
        problem = f"an image of mode {file.mode}, whose largest value is not known"
        raise rows.damaged(row, value, problem, "an image of 1, 8 or 16 bits")
    return image


def fit(image: Any, size: int, resize: int | None = None) -> Any:
    """Scale the shorter side of a Pillow image to `resize` (to `size` without it), and crop the centre of `size`."""
    from PIL import Image

    short = resize or size
    width, height = (short * side // min(image.size) for side in image.size)
    left, top = (round((side - size) / 2) for side in (width, height))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size, top + size))


def random_part(image: Any, size: int, generator: Generator) -> Any:
    """Scale a random part of a Pillow image to `size`: of 8 to 100 % of its area, and sides in a ratio of 3/4 to 4/3.

    References:
        C. Szegedy et al.: Going Deeper with Convolutions, 2015, arXiv:1409.4842, section 6.
    """
    from PIL import Image

    part = _part(image.width, image.height, generator)
    return image.crop(part).resize((size, size), Image.Resampling.BILINEAR)


def _part(width: int, height: int, generator: Generator) -> tuple[int, int, int, int]:
    """Left, upper, right and lower bound; after ten parts that stick out, the largest one in the middle."""
    low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
    for _ in range(10):
        share, ratio, right, down = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        area, ratio = width * height * (_AREA + (1 - _AREA) * share), math.exp(low + (high - low) * ratio)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(right * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * _RATIO[1])))
    h = max(1, min(height, round(width / _RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _colours(file: Any) -> Any:
    """An open Pillow image as RGB; None where its numbers have no largest one."""
    from PIL import Image

    if file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM")):  # Pillow 10 says I
        grey = np.rint(np.asarray(file, dtype=np.float64) / 257)  # 65535 / 257 = 255; convert() would clip at 255
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if file.mode in ("I", "F"):
        return None
    if file.mode in ("P", "PA"):
        file = file.convert("RGBA")  # a transparent palette is warned about on the way to RGB
    return file.convert("RGB")
