"""One stored image as red, green and blue bytes, whatever it is stored as, and of the size that is asked for."""

from __future__ import annotations

import io
from typing import Any

from rheobase.data.reasons import reason
from rheobase.data.rows import Rows

__all__ = ["decode", "fit"]

_ACCEPTED = "what Pillow reads"


def decode(rows: Rows, row: int, value: Any) -> Any:
    """The image of a row, as a Pillow image of mode RGB.

    Raises:
        DataError: It is none or damaged.
    """
    from PIL import Image

    content = rows.stored(row, value, _ACCEPTED)
    try:
        with Image.open(io.BytesIO(content)) as file:
            return file.convert("RGB")
    except Exception as error:  # Pillow's many formats raise what they like on damaged files
        problem = f"not an image, or damaged ({reason(error)})"
        raise rows.damaged(row, value, problem, _ACCEPTED) from error


def fit(image: Any, size: int) -> Any:
    """Scale the shorter side of a Pillow image to `size`, and crop the centre."""
    width, height = image.size
    scale = size / min(width, height)
    image = image.resize((max(size, round(width * scale)), max(size, round(height * scale))))
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))
