"""Where the rows of a data set come from: `$RHEOBASE_DATA/<name>`, a local folder or the hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rheobase.data.classes import relabel
from rheobase.data.reasons import first_line, innermost, quiet, reason
from rheobase.errors import DataError

__all__ = ["KNOWN", "Columns", "DataSource", "described", "evaluation_split", "load", "resolve"]


class Columns(NamedTuple):
    """The names of the two columns that are read: what goes into the network, and its class."""

    input: str
    label: str


@dataclass(frozen=True)
class DataSource:
    """A data set that is known by a short name.

    Args:
        hub: Its hub repository.
        columns: Of its inputs and its labels.
        config: Of the repository, where it has several.
        revision: Of the repository, where `datasets` cannot read the main one.
        classes: Of the task, in their order, where they are not those of the repository.
        other: The class of them that all other names belong to.
        test: The split with labels that nothing is trained on.
        size: Side of the images that a network takes, where the stored ones have many sizes.
        resize: What their shorter side is scaled to before the centre is cropped.
    """

    hub: str
    columns: Columns
    config: str | None = None
    revision: str | None = None
    classes: tuple[str, ...] = ()
    other: str = ""
    test: str = "test"
    size: int | None = None
    resize: int | None = None


KNOWN = {
    "cifar10": DataSource("uoft-cs/cifar10", Columns("img", "label")),
    "cifar100": DataSource("uoft-cs/cifar100", Columns("img", "fine_label")),
    "imagenet": DataSource(  # the labels of its test split are not public
        "ILSVRC/imagenet-1k", Columns("image", "label"), test="validation", size=224, resize=256
    ),
    "imdb": DataSource("stanfordnlp/imdb", Columns("text", "label")),
    "speech_commands": DataSource(  # its main revision is a script, and `datasets` runs none any more
        "google/speech_commands",
        Columns("audio", "label"),
        config="v0.02",
        revision="refs/pr/5",
        classes=("_silence_", "_unknown_", "down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes"),
        other="_unknown_",
    ),
}
"""Short names of data sets. Any other hub name or local folder works too."""

_FILE = re.compile(r"file '([^']+)'")  # in what `datasets` logs


def resolve(name_or_path: str | Path, root: str | Path | None = None) -> str:
    """Say where a data set is: a local folder where there is one, else its name on the hub.

    Args:
        name_or_path: A name of `KNOWN`, a local folder, or ``owner/name`` on the hub.
        root: Folder that holds the data sets by name. It replaces `$RHEOBASE_DATA`, and with it the hub
            is not asked.

    Raises:
        DataError: `root` is given and does not hold the data set, or the name can be no data set.
    """
    name = str(name_or_path)
    folder = root if root is not None else os.environ.get("RHEOBASE_DATA")
    tried = [] if folder is None else [Path(folder) / name]
    if name not in KNOWN:
        tried.append(Path(name).expanduser())
    for path in tried:
        if path.is_dir():
            return str(path)
    hub = KNOWN[name].hub if name in KNOWN else name
    if root is None and hub.count("/") <= 1 and not Path(name).is_absolute() and not name.startswith("."):
        return hub
    raise DataError(
        f"no data set {name!r}: looked for the folder {' and '.join(str(p.absolute()) for p in tried)}; "
        f"give one of {', '.join(KNOWN)}, a folder or a hub name, and let root or $RHEOBASE_DATA name "
        "the folder that holds the data sets"
    )


def load(name_or_path: str | Path, split: str, *, root: str | Path | None = None) -> Any:
    """Load one split of a data set, without decoding anything.

    Args:
        name_or_path: A name of `KNOWN` (from `root`, `$RHEOBASE_DATA` or the hub, whichever has it first),
            a local folder (parquet files, or images in one sub-folder for each class), or a hub name.
        split: ``"train"``, ``"test"`` or another split of the data set; ``"train[:1000]"`` is its beginning.
        root: Folder that holds the data sets by name, instead of `$RHEOBASE_DATA` and the hub.

    Returns:
        A `datasets.Dataset`; images and audio in it are bytes or paths, not decoded. Labels of Speech Commands are
        those of the task with 12 classes, of which ``"_unknown_"`` stands for all other words; the hub has 36.

    Raises:
        DataError: There is no such data set or split, or its files cannot be read.
    """
    place, known = resolve(name_or_path, root), described(name_or_path)
    datasets = _datasets()
    logged: list[str] = []
    special: dict[str, str] = {}
    if known is not None and known.config is not None:
        if Path(place).is_dir():
            place = str(inner) if (inner := Path(place) / known.config).is_dir() else place
        else:
            special = {"name": known.config, "revision": known.revision or "main"}
    try:
        with quiet(datasets) as logged:
            rows = datasets.load_dataset(place, split=split, **special)
    except Exception as error:  # `datasets` raises a dozen kinds, most of them its own
        asked = "".join(f", {key} {value!r}" for key, value in special.items())
        raise DataError(_explain(datasets, str(name_or_path), place, asked, split, error, logged)) from error
    if known is not None and known.classes:
        where = f"data set {str(name_or_path)!r}, split {split!r}"
        rows = relabel(rows, known.columns.label, known.classes, known.other, where)
    for column, feature in rows.features.items():
        if isinstance(feature, datasets.Image | datasets.Audio):
            rows = rows.cast_column(column, type(feature)(decode=False))
    return rows


def described(name_or_path: str | Path) -> DataSource | None:
    """What is known of a data set: under its short name or that of its hub repository."""
    name = str(name_or_path)
    return KNOWN.get(name) or next((source for source in KNOWN.values() if source.hub == name), None)


def evaluation_split(name_or_path: str | Path, root: str | Path | None = None) -> str:
    """The split to measure an accuracy on: ``"test"``, or ``"validation"`` where there is no test split with labels.

    Raises:
        DataError: There is no such data set.
    """
    known = described(name_or_path)
    if known is not None:
        return known.test
    names = _split_names(_datasets(), resolve(name_or_path, root))
    return "validation" if "validation" in names and "test" not in names else "test"


def _explain(datasets: Any, name: str, place: str, asked: str, split: str, error: Exception, logged: list[str]) -> str:
    if not Path(place).is_dir():
        variable = os.environ.get("RHEOBASE_DATA")
        local = f"{Path(variable) / name} (from $RHEOBASE_DATA)" if variable else "$RHEOBASE_DATA, which is not set"
        outer, inner = first_line(error) or type(error).__name__, reason(error)
        found = outer if inner.endswith(outer) else f"{outer}; {inner}"
        return (
            f"data set {name!r}, split {split!r}: not in {local}, and {place!r}{asked} could not be had from the "
            f"Hugging Face hub ({found}); put it in the folder that $RHEOBASE_DATA names, or give the path "
            "of a folder"
        )
    names = _split_names(datasets, place)
    base = split.split("[", maxsplit=1)[0]
    if names and base not in names:
        return f"data set {name!r} at {place} has no split {base!r}; it has {', '.join(names)}"
    if type(error) is ValueError and "[" in split:  # that of a damaged file is of a kind of its own
        return (
            f"data set {name!r} at {place}: no rows can be chosen by {split!r} ({first_line(error)}); accepted is a "
            f"part of a split that has rows, such as '{base}[:100]' or '{base}[10%:20%]'"
        )
    if isinstance(missing := innermost(error), ModuleNotFoundError):  # a folder of recordings, and no torchcodec
        return (
            f"data set {name!r}, split {split!r}: `datasets` needs the package {missing.name} to read {place}; install "
            "it, or store the samples in parquet files"
        )
    damaged = _FILE.search("\n".join(logged))
    files = f"the file {damaged[1]}" if damaged else f"the files in {place}"
    return (
        f"data set {name!r}, split {split!r}: {files} cannot be read ({reason(error)}); accepted are parquet files "
        "named after their split, such as train-00000-of-00001.parquet, or images in one sub-folder for each class; "
        "copy or download what is damaged again"
    )


def _split_names(datasets: Any, place: str) -> list[str]:
    """The splits there are; none where that cannot be found out, and loading one says why."""
    try:
        with quiet(datasets):
            return list(datasets.get_dataset_split_names(place))
    except Exception:  # noqa: BLE001 what loading raises is the error to report
        return []


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError("loading data sets needs the package `datasets`; pip install 'rheobase[data]'") from error
    return datasets
