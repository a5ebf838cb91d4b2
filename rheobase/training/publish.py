"""From a finished training to the zoo: round, store, measure what was stored, write the card."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

from rheobase import models
from rheobase.errors import DataError
from rheobase.files import write_atomically
from rheobase.models.zoo import Card, names, read_card, store, table
from rheobase.training.batches import Samples
from rheobase.training.finished import Finished, read_finished
from rheobase.training.measure import evaluate_ann
from rheobase.training.provenance import Provenance, read_provenance
from rheobase.training.samples import tokenizer_to_store

__all__ = ["publish"]

_LARGEST = 30_000_000  # bytes of a weights file


def publish(run: str | Path, zoo: str | Path, *, test: Samples | None = None) -> Card:
    """Store a finished training in the zoo, where it is better than what is there under its name.

    The name is the recipe's without ``-fast`` or ``-paper``: recipes for one network compete.

    Args:
        run: The folder of the training.
        zoo: The folder of the zoo.
        test: Test samples, instead of the data set that the recipe names; a network for texts is then stored without
            its tokenizer.

    Returns:
        The card of what the zoo now holds under that name.

    Raises:
        DataError: The training is not finished or of a fold, its weights are too large, or a file cannot be read.
    """
    place = Path(run)
    finished = read_finished(place)
    config = finished.config
    if config.folds:
        raise DataError(
            f"{place} is a training on fold {config.fold} of {config.folds}; the zoo holds networks of the official "
            "training split, so that its test split is new to them: publish one of those"
        )
    name = config.name.removesuffix("-fast").removesuffix("-paper")
    origin = read_provenance(place)
    tokenizer = tokenizer_to_store(config) if test is None else None
    with tempfile.TemporaryDirectory() as staged:
        card = store(finished.model, _card(name, finished, origin), staged, tokenizer)
        size = (Path(staged) / f"{name}.safetensors").stat().st_size
        if size > _LARGEST:
            raise DataError(
                f"the weights of {name!r} take {size:,} bytes, the zoo at most {_LARGEST:,}; make it smaller"
            )
        measured = evaluate_ann(name, folder=staged, test=test)
        kept = models.load(name, staged).model
    if name in names(zoo) and read_card(name, zoo).accuracy >= measured.accuracy:
        card = read_card(name, zoo)
    else:
        card = dataclasses.replace(card, accuracy=measured.accuracy, test_samples=measured.samples)
        card = store(kept, card, zoo, tokenizer)
    write_atomically(Path(zoo) / "README.md", _PREFACE + table(zoo))  # also where a kill came between card and page
    return card


_PREFACE = """# Trained networks

`rheobase.models.load("NAME")` gives the network with its weights, the transform of its input and its accuracy.
The accuracy is that of the stored, rounded weights on the whole test split; `rheobase evaluate-ann` measures it again.
This page is generated from the cards.

The weights are in the repository and too large for the package that `pip` installs. There, clone the repository and let
`RHEOBASE_ZOO=/path/to/rheobase/zoo` name this folder.

"""


def _card(name: str, finished: Finished, origin: Provenance) -> Card:
    config = finished.config
    return Card(
        name=name,
        model=config.model,
        model_settings=config.model_settings,
        data=config.data,
        mean=config.mean,
        std=config.std,
        accuracy=0.0,  # measured once it is stored
        test_samples=0,
        parameters=sum(p.numel() for p in finished.model.parameters()),
        recipe=json.loads(json.dumps(dataclasses.asdict(config))),  # lists for tuples, as in the file
        seconds=round(finished.seconds, 1),
        hardware=origin.hardware,
        commit=origin.commit,
        versions=origin.versions,
        sha256="",
    )
