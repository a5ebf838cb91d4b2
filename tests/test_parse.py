"""Methods from text: what is printed can be typed, and what cannot be used says what can."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import rheobase as rb
from rheobase import MSAT, ConstantThreshold, SettingError, methods
from rheobase.methods._base import Method
from rheobase.methods.parse import parse_method

_OWN = Path(__file__).parent.parent / "examples" / "half_step.py"


@pytest.mark.parametrize("name", methods.__all__)
def test_every_published_method_is_parsed_from_its_repr(name: str) -> None:
    method = getattr(methods, name)()
    assert parse_method(repr(method)) == method
    assert parse_method(name) == method


@pytest.mark.parametrize(
    "method",
    [
        MSAT.vgg16(confidence=True, confidence_sites=("a", "b")),
        MSAT.release(v_t=-0.25),
        ConstantThreshold(fraction=1e-3, per_channel=True, reset="hard"),
    ],
    ids=repr,
)
def test_changed_settings_are_parsed_from_their_repr(method: Method) -> None:
    assert parse_method(repr(method)) == method


@pytest.mark.parametrize("name", methods.__all__)
def test_a_full_list_of_settings_is_parsed(name: str) -> None:
    method = getattr(methods, name)()
    text = ", ".join(f"{field.name}={getattr(method, field.name)!r}" for field in fields(method))
    assert parse_method(f"{name}({text})") == method


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("MSAT.resnet34", MSAT.resnet34()),
        (" MSAT.vgg16( confidence = True ) ", MSAT.vgg16(confidence=True)),
        ("rb.ConstantThreshold(0.5)", ConstantThreshold(0.5)),
        ("rheobase.methods.MSAT()", MSAT()),
    ],
)
def test_presets_positions_and_prefixes_are_parsed(text: str, method: Method) -> None:
    assert parse_method(text) == method


def test_a_method_of_a_file_is_parsed_and_the_file_run_once() -> None:
    method = parse_method(f"{_OWN}:HalfStep(fraction=0.8)")
    assert repr(method) == "HalfStep(fraction=0.8)"
    assert parse_method(f"{_OWN}:HalfStep(0.8)") == method


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Foo()",
            r"There is no method 'Foo'. Accepted: .*MSAT\(...\).*vgg16.*ConstantThreshold\(...\).*ClassName",
        ),
        ("MSTA()", r"no method 'MSTA'. Did you mean MSAT\? Accepted: "),
        ("msat.vgg16", r"no method 'msat.vgg16'. Did you mean MSAT.vgg16\? Accepted: "),
        ("MSAT.vgg19()", r"no method 'MSAT.vgg19'. Did you mean MSAT.vgg16\? Accepted: .*MSAT"),
        ("MSAT.observer()", r"no method 'MSAT.observer'"),
        ("Method()", r"no method 'Method'"),
        ("MSAT(beta=1)", r"unexpected keyword argument 'beta'. Its settings are alpha=0.3, "),
        ("MSAT.vgg16(beta=1)", r"unexpected keyword argument 'beta'. Its settings are alpha=0.3, "),
        ("ConstantThreshold(fraction='x')", "fraction is 'x'; it must be a number"),
        ("ConstantThreshold(fraction=0)", r"fraction is 0; it must be greater than 0"),
        ("ConstantThreshold(fraction=1/2)", r"cannot be read. Accepted is a name with literal values"),
        ("MSAT(confidence=True", r"cannot be read"),
        ("MSAT(**{})", r"cannot be read"),
        ("__import__('os').system('true')", r"cannot be read"),
        ("", r"cannot be read"),
        ("absent.py:Foo()", r"there is no file .*absent.py"),
        ("no_such_module:Foo()", r"there is no module 'no_such_module'"),
        (f"{_OWN}:Foo()", r"no method 'Foo' in .*half_step.py. Accepted: HalfStep\(...\)."),
    ],
)
def test_what_cannot_be_used_says_what_can(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse_method(text)


def test_a_file_that_raises_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "broken_method.py").write_text("1 / 0")
    with pytest.raises(SettingError, match="running it raised ZeroDivisionError: division by zero"):
        parse_method(f"{tmp_path}/broken_method.py:Foo()")


def test_files_of_the_same_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    for folder, name in (("a", "First"), ("b", "Second")):
        (tmp_path / folder).mkdir()
        text = _OWN.read_text().replace("HalfStep", name)
        (tmp_path / folder / "twin_method.py").write_text(text)
    assert repr(parse_method(f"{tmp_path}/a/twin_method.py:First")) == "First()"
    assert repr(parse_method(f"{tmp_path}/b/twin_method.py:Second")) == "Second()"


def test_a_method_that_is_only_in_methods_says_where_it_is() -> None:
    with pytest.raises(AttributeError, match=r"rheobase.methods.TemporalBias"):
        rb.TemporalBias  # type: ignore[attr-defined]  # noqa: B018 - reading it is the test
    with pytest.raises(AttributeError, match="No rheobase attribute Absent"):
        rb.Absent  # type: ignore[attr-defined]  # noqa: B018 - reading it is the test
