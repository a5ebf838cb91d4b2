"""What `train` and `evaluate-ann` share: a finished training goes to the zoo."""

from __future__ import annotations

from pathlib import Path

from rheobase.cli.tables import percent
from rheobase.cli.terminal import note
from rheobase.errors import SettingError

__all__ = ["publish_run"]


def publish_run(run: Path, zoo: Path) -> None:
    """Store a training in a zoo where it is better than what is there, and say what the zoo then holds.

    Raises:
        DataError: the training is not finished, or is not one for the zoo.
        SettingError: the folder of the zoo cannot be written to.
    """
    from rheobase.models import names, read_card
    from rheobase.training import publish

    before = {name: read_card(name, zoo) for name in names(zoo)}
    try:
        card = publish(run, zoo)
    except OSError as error:
        raise SettingError(f"--publish {zoo} cannot be written ({error.strerror}); give another folder.") from error
    if before.get(card.name) == card:
        note(f"Not published: {zoo} already holds {card.name} with {percent(card.accuracy)} %, and this is no better.")
    else:
        note(f"Published: {zoo / card.name}.safetensors has {percent(card.accuracy)} % of {card.test_samples:,}.")
