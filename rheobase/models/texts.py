"""Texts as token numbers, by the tokenizer that a network of the zoo was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rheobase.errors import DataError

__all__ = ["read_tokenizer", "token_numbers"]


def read_tokenizer(content: str, name: str) -> Any:
    """A `tokenizers.Tokenizer` from its JSON, which also says how long a text is made.

    Args:
        content: What ``Tokenizer.to_str`` gave.
        name: Of the network, for messages.

    Raises:
        DataError: The package `tokenizers` is missing, or cannot read it.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise DataError(
            f"{name} takes texts by the package `tokenizers`; pip install 'rheobase[data]', or give int64 token numbers"
        ) from error
    try:
        return tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the package raises nothing more special
        raise DataError(
            f"tokenizers {tokenizers.__version__} cannot read the tokenizer of {name} ({error}); install the version "
            "of constraints.txt"
        ) from error


def token_numbers(texts: Sequence[str], tokenizer: Any) -> Tensor:
    """The numbers of the first tokens of each text, filled at the end with that of the padding.

    Shape:
        N texts -> int64 (N, L), L the length that the tokenizer has.
    """
    return torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(list(texts))], dtype=torch.int64)
