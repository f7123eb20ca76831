# ruff: noqa: E501, RUF001 -- lists are read more easily in long lines, and have look-alikes
"""Files that YAML can hardly read, or reads as something else: bombs, bytes, keys, traps of 1.1."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from study_outcomes import Case, Change

FILES = {
    "config/smoke.yaml": ("smoke", "description", "tasks"),
    "config/experiments.yaml": ("smoke", "collapse_below", "tables"),
    "config/claims.yaml": ("smoke", "registration", "claims"),
    "config/learning_rates/laptop.yaml": ("laptop", "seeds", "chosen"),
    "config/pilots/laptop.yaml": ("laptop", "commit", "contrasts"),
    "results/laptop/decide/looks.json": ("laptop", "looks", "taken"),
}


_NUMBERS = ("5000 digits, ", "4000 digits", "a float", "an exponent", "minus")


def cases(base: Path) -> Iterator[Case]:
    """Make the cases of all files, for the study in a folder."""
    for name, (scale, *_) in FILES.items():
        told = (Path(name).name,)
        for kind, case, change in _not_files(name):
            yield Case(kind, f"{name}: {case}", {name: change}, scale=scale, told=told)
        text = (base / name).read_bytes()
        for kind, case, added in _wrong_texts(name):
            yield Case(kind, f"{name}: {case}", {name: added}, scale=scale, told=told)
        for kind, case, changed in _added(name, text):
            # A description can be any text, which these are.
            is_text = case.endswith(("in description", "in commit")) and not case.startswith(
                _NUMBERS
            )
            expect = "right" if is_text else "refused"
            yield Case(
                kind, f"{name}: {case}", {name: changed}, scale=scale, expect=expect, told=told
            )
        for case, changed in _right(text):
            files = {name: changed}
            yield Case("text: another form", f"{name}: {case}", files, scale=scale, expect="right")
    yield from _traps(base)


def _link(target: str):
    return lambda path: path.symlink_to(target)


def _socket(path: Path) -> None:
    os.chdir(path.parent)
    socket.socket(socket.AF_UNIX).bind(path.name)


def _large(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(b"a: 1\n")
        file.truncate(3 << 30)  # without taking disk


def _not_files(name: str) -> Iterator[tuple[str, str, Change]]:
    kind = "file: none, or not a regular one"
    if "claims" not in name and "looks" not in name:  # a study may do without
        yield kind, "missing", None
    yield kind, "a folder", lambda path: path.mkdir()
    yield kind, "a pipe", os.mkfifo
    yield kind, "a socket", _socket
    yield kind, "endless zeros", _link("/dev/zero")
    yield kind, "endless noise", _link("/dev/urandom")
    yield kind, "nothing", _link("/dev/null")
    yield kind, "a link to itself", lambda path: path.symlink_to(path.name)
    yield kind, "a link to nowhere", _link("no_such_file")
    yield kind, "a terminal", _link("/dev/tty")
    yield kind, "memory of the process", _link("/proc/self/mem")
    yield kind, "three gigabytes", _large


def _wrong_texts(name: str) -> Iterator[tuple[str, str, bytes]]:
    kind = "text: no mapping"
    texts = {
        "empty": b"", "a comment": b"# nothing\n", "blank": b" \n\n\t", "null": b"null\n",
        "a list": b"- 1\n- 2\n", "a text": b"hello\n", "a number": b"12\n", "a date": b"2026-01-01",
        "two documents": b"a: 1\n---\nb: 2\n", "only a marker": b"---\n", "an empty mapping": b"{}\n",
        "JSON cut off": b'{"a": [1, 2', "HTML": b"<html>&nbsp;</html>", "a directive": b"%YAML 9.9\n---\na: 1",
        "a directive alone": b"%TAG ! tag:x,2000:\n", "a merge conflict": b"<<<<<<< HEAD\na: 1\n=======\na: 2\n",
    }  # fmt: skip
    for case, text in texts.items():
        yield kind, case, text
    kind = "text: bytes that are no text"
    texts = {
        "latin-1": "a: \xe9\n".encode("latin-1"), "UTF-16": "a: 1\n".encode("utf-16"),
        "UTF-32": "a: 1\n".encode("utf-32"), "NUL": b"a: \x00\n", "an escape": b"a: \x1b[31m\n",
        "a surrogate": b"a: \xed\xa0\x80\n", "gzip": b"\x1f\x8b\x08\x00\x00", "a cut character": b"a: \xe2\x82",
        "a surrogate as escape": b'a: "\\ud800"\n', "a key of surrogates": b'"\\udfff": 1\n',
        "NUL as escape": b'"a\\0b": 1\n', "delete": b"a: \x7f\n", "zeros": b"\0" * 100_000,
    }  # fmt: skip
    for case, text in texts.items():
        yield kind, case, text


def _added(name: str, text: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Add what is wrong to a text that is right."""
    _, scalar, _ = FILES[name]
    if name.endswith(".json"):
        text = b"taken: []\n"
        yield "text: doubled keys", "at the top", b'{"taken": [], "taken": []}'
    else:
        yield "text: doubled keys", "the whole text twice", text + b"\n" + text
    kind = "text: bombs"
    for depth in (200, 5_000, 100_000):
        yield kind, f"{depth} brackets", text + b"x: " + b"[" * depth + b"]" * depth + b"\n"
        yield kind, f"{depth} braces", text + b"x: " + b"{a: " * depth + b"1" + b"}" * depth + b"\n"
        yield kind, f"{depth} open brackets", text + b"x: " + b"[" * depth
        yield kind, f"{depth} dashes", text + b"x:\n" + b"- " * depth + b"1\n"
    deep = b"".join(b" " * i + b"k:\n" for i in range(1, 1500))
    yield kind, "1500 indents", text + b"x:\n" + deep
    for form, one in (("list", b"[%s]"), ("mapping", b"{%s}"), ("merge", b"{<<: [%s]}")):
        lines = [b"x0: &a0 " + (b"[1, 2]" if form == "list" else b"{k: 1}")]
        for level in range(1, 30):
            refs = [b"*a%d" % (level - 1)] * 9
            if form == "mapping":
                refs = [b"k%d: %s" % (i, ref) for i, ref in enumerate(refs)]
            lines.append(b"x%d: &a%d " % (level, level) + one % b", ".join(refs))
        yield kind, f"aliases, {form}", text + b"\n".join(lines) + b"\n"
    yield kind, "a list within itself", text + b"x: &a [*a]\n"
    yield kind, "a mapping within itself", text + b"x: &a {k: *a}\n"
    yield kind, "a merge of itself", text + b"x: &a {<<: *a}\n"
    yield kind, "a million items", text + b"x: [" + b"1," * 1_000_000 + b"1]\n"
    yield kind, "a text of 20 MB", text + b"x: " + b"a" * 20_000_000 + b"\n"
    kind = "text: long integers"
    for form, digits in (("5000 digits", b"9" * 5000), ("4000 digits", b"9" * 4000), ("5000 hexadecimal digits", b"0x" + b"f" * 5000),
                   ("5000 binary digits", b"0b" + b"1" * 5000), ("5000 digits with _", b"9_" * 2500 + b"9"),
                   ("sexagesimal", b"1" + b":59" * 3000), ("a float of 5000 digits", b"9" * 5000 + b".0"),
                   ("an exponent", b"1e999999"), ("minus", b"-" + b"9" * 5000)):  # fmt: skip
        yield kind, f"{form}, a value", text + b"x: " + digits + b"\n"
        yield kind, f"{form}, a key", text + b"x: {" + digits + b": 1}\n"
        replaced = b"\n".join(
            line for line in text.split(b"\n") if not line.startswith(scalar.encode())
        )
        yield kind, f"{form}, in {scalar}", replaced + b"\n%s: %s\n" % (scalar.encode(), digits)
    kind = "text: keys of other types"
    for key in (b"[1, 2]", b"{a: 1}", b"null", b"~", b"true", b"1", b"1.5", b".nan", b"2026-01-01", b'""', b"? [a]\n", b"? {a: b}\n",
                b"k" * 5000, b'"a\\nb"', b'"\\e[31mred"', "\u202eabc".encode(), "ｓｃａｌｅ".encode(), "ѕcale".encode(), b'"tasks "',
                b"..", b"-x", b"*x", b"!!binary aGk=", b"<<", b"=", b"constructor", b"__class__", b"model_config", b"%s.x" % scalar.encode()):  # fmt: skip
        yield kind, key[:30].decode(), text + key + b": 1\n"
        if not name.endswith(".json"):
            yield kind, f"{key[:30].decode()}, inside", text + b"x: {" + key.strip() + b": 1}\n"
    kind = "text: tags"
    for tag in (b"!!python/object/apply:os.system [touch hacked]", b"!!python/name:os.system", b"!!python/object:os.X {}", b"!!binary aGk=",
                b"!!set {a}", b"!!omap [a: 1]", b"!!pairs [a: 1]", b"!foo 1", b"!!int hello", b"!!float x", b"!!timestamp x", b"!!bool 7", b"!!null x",
                b"!!map [1]", b"!!seq {a: 1}", b"!<tag:x,2000:y> 1", b"!!timestamp 2026-99-99", b"2026-13-45", b"2026-02-30", b"2026-01-01T99:00:00Z", b"!!merge x", b"!!value x", b"!!str [1]"):  # fmt: skip
        yield kind, tag[:40].decode(), text + b"x: " + tag + b"\n"
    kind = "text: what is not YAML"
    for case, added in {"a tab": b"x:\n\t- 1\n", "an open quote": b'x: "abc\n', "an open bracket": b"x: [1,\n", "a stray colon": b"x: a: b\n",
                "an alias to nothing": b"x: *nothing\n", "indentation": b"   x: 1\n  y: 2\n", "a merge of a number": b"x: {<<: 1}\n",
                "a merge of numbers": b"x: {<<: [1, 2]}\n", "@": b"x: @a\n", "`": b"x: `a`\n", "%": b"x: %a\n", "an escape": b'x: "\\q"\n',
                "an anchor twice": b"x: &a 1\ny: &a 2\nz: *a\n", "an end": b"...\nx: 1\n"}.items():  # fmt: skip
        yield kind, case, text + added


def _right(text: bytes) -> Iterator[tuple[str, bytes]]:
    yield "CRLF", text.replace(b"\n", b"\r\n")
    yield "a byte order mark", b"\xef\xbb\xbf" + text
    yield "no end of line", text.rstrip(b"\n")
    yield "a comment in another script", text + "\n# комментарий 注释\n".encode()
    if not text.startswith(b"{"):
        yield "a marker", b"---\n" + text + b"\n...\n"
        yield "trailing spaces", text.replace(b"\n", b"  \n")


# Where YAML 1.1 reads something else than people write: old text, new text, what is right.
TRAPS = (
    ("smoke", "report: [1]", "report: [010]", "refused"),
    ("smoke", "report: [1]", "report: [0o10]", "refused"),
    ("smoke", "report: [1]", "report: [1:30]", "refused"),
    ("smoke", "report: [1]", "report: [1_0]", "refused"),
    ("smoke", "report: [1]", "report: [1.0]", "refused"),
    ("smoke", "report: [1]", "report: ['1']", "refused"),
    ("smoke", "report: [1]", "report: [yes]", "refused"),
    ("smoke", "report: [1]", "report: [1, 1]", "refused"),
    ("smoke", "report: [1]", "report: [1, 01]", "refused"),
    ("smoke", "report: [1]", "report: 1", "refused"),
    ("smoke", "scale: smoke", "scale: no", "refused"),
    ("smoke", "scale: smoke", "scale: 'smoke '", "refused"),
    ("smoke", "scale: smoke", "scale: Smoke", "refused"),
    ("smoke", "scale: smoke", 'scale: "smoke\\n"', "refused"),
    ("smoke", "scale: smoke", "scale: ѕmoke", "refused"),
    ("smoke", "learning_rate: 1.0e-3", "learning_rate: 1e-3", "right"),
    ("smoke", "learning_rate: 1.0e-3", "learning_rate: 1E-3", "right"),
    ("smoke", "learning_rate: 1.0e-3", "learning_rate: '1e-3'", "refused"),
    ("smoke", "learning_rate: 1.0e-3", "learning_rate: 1,5", "refused"),
    ("smoke", "learning_rate: 1.0e-3", "learning_rate: 1:30", "refused"),
    ("smoke", "learning_rate: 1.0e-3", "learning_rate: 1:30.5", "refused"),
    ("smoke", "learning_rate: 1.0e-3", "learning_rate: 1e400", "refused"),
    ("smoke", "learning_rate: 1.0e-3", "learning_rate: 1_0.0", "refused"),
    ("smoke", "learning_rate: 1.0e-3", "learning_rate: true", "refused"),
    ("smoke", "steps: 8", "steps: 010", "refused"),
    ("smoke", "steps: 8", "steps: 8.0", "refused"),
    ("smoke", "steps: 8", "steps: 0b1000", "refused"),
    ("smoke", "steps: 8", "steps: 0x8", "refused"),
    ("smoke", "steps: 8", "steps: 8 # steps", "right"),
    ("smoke", "steps: 8", "steps: on", "refused"),
    ("smoke", "steps: 8", "steps: ٨", "refused"),
    ("smoke", "beta: 0.1", "beta: .1", "right"),
    ("smoke", "beta: 0.1", "beta: +.1", "right"),
    ("smoke", "beta: 0.1", "beta: 1e-1", "right"),
    ("smoke", "beta: 0.1", "beta: .inf", "refused"),
    ("smoke", "beta: 0.1", "beta: 0:6", "refused"),
    ("experiments", "humanline: [false, true]", "humanline: [no, yes]", "right"),
    ("experiments", "humanline: [false, true]", "humanline: [off, on]", "right"),
    ("experiments", "humanline: [false, true]", "humanline: [0, 1]", "refused"),
    ("experiments", "humanline: [false, true]", "humanline: ['false', 'true']", "refused"),
    ("experiments", "humanline: [false, true]", "humanline: [n, y]", "refused"),
    ("experiments", "humanline: [false, true]", "humanline: [true, true]", "refused"),
    ("experiments", "sync_interval: none", "sync_interval: None", "refused"),
    ("experiments", "sync_interval: none", "sync_interval: no", "refused"),
    ("experiments", "sync_interval: none", "sync_interval: 02", "refused"),
    ("experiments", "data_from: stronger", "data_from: 'stronger '", "refused"),
    ("experiments", "data_from: stronger", "data_from: strоnger", "refused"),
    ("experiments", "data_from: stronger", "data_from: on", "refused"),
    ("experiments", "collapse_below: 0.5", "collapse_below: 5_0", "refused"),
    ("claims", "date: 2026-11-26", "date: 20261126", "refused"),
    ("claims", "date: 2026-11-26", "date: 86400", "refused"),
    ("claims", "date: 2026-11-26", 'date: "2026-11-26"', "right"),
    ("claims", "date: 2026-11-26", "date: 2026-11-26T10:00:00", "refused"),
    ("claims", "date: 2026-11-26", "date: 26.11.2026", "refused"),
    ("claims", "date: 2026-11-26", "date: 2026-1-2", "either"),
    ("claims", "primary: true", "primary: yes", "right"),
    ("claims", "primary: true", "primary: 1", "refused"),
    ("claims", "primary: true", "primary: 'true'", "refused"),
    ("claims", "alpha: 0.05", "alpha: 5%", "refused"),
    ("claims", "id: C4", "id: 4", "refused"),
    ("claims", "id: C4", "id: no", "refused"),
    ("claims", "id: C4", "id: C1", "refused"),
    ("claims", "id: C4", "id: 'C1 '", "refused"),
    ("claims", "to: 6", "to: 6:30", "refused"),
)  # fmt: skip


def _traps(base: Path) -> Iterator[Case]:
    for stem, old, new, expect in TRAPS:
        name = f"config/{stem}.yaml"
        text = (base / name).read_text()
        assert old in text, (name, old)
        yield Case(
            "text: traps of YAML 1.1",
            f"{name}: {new}",
            {name: text.replace(old, new, 1).encode()},
            expect=expect,
            told=(Path(name).name,) if expect == "refused" else (),
        )
