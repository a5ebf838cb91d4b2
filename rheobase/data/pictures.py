"""One stored image as red, green and blue bytes, whatever it is stored as, and of the size that is asked for."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from rheobase.data.reasons import reason
from rheobase.data.rows import Rows

__all__ = ["decode", "fit"]

_ACCEPTED = "what Pillow reads"


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


def fit(image: Any, size: int) -> Any:
    """Scale the shorter side of a Pillow image to `size`, and crop the centre."""
    width, height = image.size
    scale = size / min(width, height)
    image = image.resize((max(size, round(width * scale)), max(size, round(height * scale))))
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


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
