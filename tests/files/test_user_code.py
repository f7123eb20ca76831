"""A user's own code: found and hashed without running it, and imported from where one works."""

import sys

import pytest

from humanline.files import user_code
from humanline.files.validation import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with modules that must not run unless they are loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_code_of_mine", raising=False)
    (tmp_path / "own_code_of_mine.py").write_text("import own_helper\ndef f(x):\n    return x\n")
    (tmp_path / "own_helper.py").write_text("raise RuntimeError('I ran')\n")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("raise RuntimeError('I ran')\n")
    (tmp_path / "own_package" / "inner.py").write_text("from . import other\nVALUE = 3\n")
    (tmp_path / "own_package" / "other.py").write_text("ONE = 1\n")
    return tmp_path


def test_what_is_there_is_found_and_does_not_run(folder):
    user_code.require("own_code_of_mine.f")
    user_code.require("own_package.inner.VALUE")
    user_code.require("humanline.rewards.armorm")
    assert user_code.source_file("own_package.inner") == folder / "own_package" / "inner.py"
    assert "own_code_of_mine" not in sys.modules and "own_package" not in sys.modules


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("f", "'f' is no dotted path; write module.function"),
        ("own code.f", "'own code.f' is no dotted path"),
        ("../x.f", "is no dotted path"),
        ("own_nothing.f", "no module 'own_nothing' here or installed; mend the path"),
        ("own_code_of_mine.ff", "has no 'ff'; did you mean f"),
        ("own_package.nothing.f", "no module 'own_package.nothing'"),
        ("own_broken.f", "line 1: .*; mend it"),
    ],
)
def test_what_is_not_there_is_told_on_one_line(path, said, folder):
    (folder / "own_broken.py").write_text("def f(:\n")
    with pytest.raises(ValueError, match=said) as error:
        user_code.require(path)
    assert "\n" not in str(error.value)


def test_a_module_that_raises_is_told_on_one_line():
    with pytest.raises(ConfigError) as error:
        user_code.function("own_code_of_mine.f")
    reason = "'own_code_of_mine.f' cannot be imported (RuntimeError: I ran)"
    assert str(error.value) == f"{reason}; give a function's dotted path"
    with pytest.raises(ConfigError, match=r"'own_package.other.ONE' cannot be imported"):
        user_code.function("own_package.other.ONE")


def test_what_is_no_function_is_told(folder):
    (folder / "own_number.py").write_text("NUMBER = 3\n")
    with pytest.raises(ConfigError, match=r"'own_number.NUMBER' is int, not a function"):
        user_code.function("own_number.NUMBER")
    assert str(folder) not in sys.path


def test_the_hash_is_that_of_code_and_of_modules_beside_it(folder):
    def change(file: str, text: str) -> list[bool]:
        names = ("own_code_of_mine", "own_package.inner")
        before = [user_code.source_hash(name) for name in names]
        with open(folder / file, "a") as module:
            module.write(text)
        return [user_code.source_hash(name) != old for name, old in zip(names, before, strict=True)]

    assert change("own_code_of_mine.py", "# prose\n\n") == [False, False]
    assert change("own_code_of_mine.py", "Y = 2\n") == [True, False]
    assert change("own_helper.py", "Y = 2\n") == [True, False]
    assert change("own_package/other.py", "Y = 2\n") == [False, True]
    assert change("own_package/inner.py", "import humanline.cli.commands\n") == [False, True]
    (folder / "humanline.py").write_text("not code")  # our own package is not the user's
    assert change("own_code_of_mine.py", "import humanline.study.study\n") == [True, False]


def test_modules_beside_it_count_wherever_it_is_found(folder, monkeypatch, tmp_path_factory):
    """On Python's path, too, and the packages around a module, which are imported before it."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.syspath_prepend(elsewhere)
    (elsewhere / "own_far").mkdir()
    (elsewhere / "own_far" / "__init__.py").write_text("")
    (elsewhere / "own_far" / "code.py").write_text("import own_far_helper\ndef f(x):\n    pass\n")
    (elsewhere / "own_far_helper.py").write_text("ONE = 1\n")
    found = user_code.sources("own_far.code")
    assert set(found) == {"own_far", "own_far.code", "own_far_helper"}
    assert set(user_code.sources("own_package.inner")) > {"own_package"}
    monkeypatch.setattr(user_code, "_INSTALLED", {elsewhere.resolve()})
    assert set(user_code.sources("own_far.code")) == {"own_far", "own_far.code"}


@pytest.mark.parametrize("content", [b"def (:\n", b"\xff\n"])
def test_a_module_beside_it_that_is_not_python_is_told_on_one_line(content, folder):
    (folder / "own_helper.py").write_bytes(content)
    for call in (user_code.source_hash, lambda name: user_code.require(f"{name}.f")):
        with pytest.raises(ConfigError, match=r"own_helper\.py: .*; mend it") as error:
            call("own_code_of_mine")
        assert "\n" not in str(error.value)


def test_a_module_that_ends_python_is_told(folder, monkeypatch):
    (folder / "own_script.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ConfigError, match=r"cannot be imported \(SystemExit: 0\)"):
        user_code.function("own_script.f")
