"""Texts as sequences of tokens, with a vocabulary that is learned from the training split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rheobase.data.rows import choose
from rheobase.data.source import Columns
from rheobase.errors import DataError, SettingError

__all__ = ["learn_tokenizer", "texts", "tokens"]


def texts(
    name: str | Path,
    split: str,
    *,
    limit: int | None = None,
    seed: int | None = None,
    columns: Columns | tuple[str, str] | None = None,
    root: str | Path | None = None,
) -> tuple[list[str], Tensor]:
    """The texts of a split and their labels; the arguments are those of `rheobase.data.images`.

    Raises:
        DataError: No such data set, split or column, or a row that is no text.
    """
    rows = choose(name, split, "text", limit=limit, seed=seed, columns=columns, root=root)
    found, labels = [], []
    for chunk, some in rows.chunks(5000):
        labels.append(some)
        for row, value in chunk:
            if not isinstance(value, str):
                raise rows.damaged(row, value, f"found {type(value).__name__}", "text")
            found.append(value)
    return found, torch.cat(labels)


def learn_tokenizer(corpus: Iterable[str], vocabulary: int = 20_000) -> Any:
    """Learn a vocabulary of whole words: lower case, split at spaces and punctuation.

    Args:
        corpus: Texts of the training split.
        vocabulary: Most words to know, with 0 for padding and 1 for all others.

    Returns:
        A `tokenizers.Tokenizer`; the same texts give the same one.
    """
    if vocabulary < 3:
        raise SettingError(f"vocabulary is {vocabulary}; give 3 or more: padding, unknown and the words")
    tokenizers = _tokenizers()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.Sequence(
        [
            tokenizers.normalizers.Replace("<br />", " "),
            tokenizers.normalizers.Lowercase(),
            tokenizers.normalizers.StripAccents(),
        ]
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.WordLevelTrainer(
        vocab_size=vocabulary, special_tokens=["[PAD]", "[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def tokens(corpus: list[str], tokenizer: Any, length: int = 256) -> Tensor:
    """Turn texts into token numbers: the first `length` of each, filled with 0 at the end.

    Shape:
        N texts -> int64 (N, length).
    """
    if length < 1:
        raise SettingError(f"length is {length}; give a positive number of tokens")
    result = torch.zeros(len(corpus), length, dtype=torch.int64)
    for row, encoding in enumerate(tokenizer.encode_batch(corpus)):
        numbers = torch.tensor(encoding.ids[:length], dtype=torch.int64)
        result[row, : len(numbers)] = numbers
    return result


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise DataError("texts need the package `tokenizers`; pip install 'rheobase[data]'") from error
    return tokenizers
