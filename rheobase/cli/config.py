"""Options from a TOML file: every flag under its own name; what is on the command line wins."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from rheobase.errors import SettingError

__all__ = ["use_config"]

_NOT_IN_FILES = ("config", "debug", "help")


def use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a TOML file the defaults of a verb: its own table, and before it the top level.

    Raises:
        SettingError: the file cannot be read, or has a key or value that no flag accepts.
    """
    if path is None or context.resilient_parsing:
        return path
    content = _read(path)
    group = context.parent.command if context.parent is not None else None
    verbs: Mapping[str, Any] = getattr(group, "commands", {})
    flags = {verb: _flags(command) for verb, command in verbs.items() if _reads_files(command)}
    tables = {key: value for key, value in content.items() if key in flags and isinstance(value, Mapping)}
    shared = {_flag(key): value for key, value in content.items() if key not in tables}
    problems = _unknown(shared, {flag for known in flags.values() for flag in known}, "at the top level")
    for verb, table in tables.items():
        problems += _unknown({_flag(key): value for key, value in table.items()}, set(flags[verb]), f"in [{verb}]")
    if problems:
        raise SettingError(f"{path}: " + "\n".join(problems))
    mine = flags[str(context.info_name)]
    table = {_flag(key): value for key, value in tables.get(str(context.info_name), {}).items()}
    context.default_map = {
        mine[flag].name: _value(path, flag, value, bool(mine[flag].multiple))
        for flag, value in {**shared, **table}.items()
        if flag in mine
    }
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"--config {path} cannot be read as TOML: {error}.") from error


def _flag(key: str) -> str:
    return key.replace("_", "-")


def _reads_files(command: Any) -> bool:
    return any(parameter.name == "config" for parameter in command.params)


def _flags(command: Any) -> dict[str, Any]:
    """The parameters of a command by the name of their flag, without its dashes."""
    long = {o[2:]: p for p in command.params for o in p.opts if o.startswith("--")}
    return {flag: parameter for flag, parameter in long.items() if flag not in _NOT_IN_FILES}


def _unknown(given: Mapping[str, Any], known: set[str], where: str) -> list[str]:
    wrong = [repr(key) for key in given if key not in known]
    if not wrong:
        return []
    return [f"there is no option {', '.join(wrong)} {where}; accepted are {', '.join(sorted(known))}."]


def _value(path: Path, flag: str, value: Any, multiple: bool) -> Any:
    """A TOML value as the flag has it on the command line."""
    if isinstance(value, Mapping):
        value = [f"{key}={entry}" for key, entry in value.items()]
    if isinstance(value, list):
        texts = [str(entry) for entry in value]
        return texts if multiple else ",".join(texts)
    if not isinstance(value, bool | str | int | float):
        raise SettingError(f"{path}: {flag} is {value!r}; give text, a number, true or false, or a list of those.")
    return [str(value)] if multiple else value if isinstance(value, bool) else str(value)
