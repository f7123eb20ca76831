# ruff: noqa: E501 -- lists are read more easily in long lines
"""Damages of the files that commands read: tables, seconds, looks, annotations, and answers."""

import gzip
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from small_study import LOOKS
from stage_file_damages import ANY, FOLDER, damages
from study_outcomes import Case, Change

from humanline.files.seals import seal_of

SMALL = ("--config=config", "--scale=small", "--results=results")
JUDGED = ("--config=judged", "--scale=judged", "--results=results")
RUNS = "results/small/runs/math_reasoning/"
DECIDE = ("decide", "--minutes=0.1", *SMALL)
SCORE = ("score", "instruction_following", "base-s1", *JUDGED)
ANSWERS = "results/judged/runs/instruction_following/base-s1/judge/answers.jsonl"
LOOKS_TAKEN = "results/small/decide/looks.json"
# Damages that no reader can take for the file, with a seal or without one.
NO_FILE = ("a folder", "empty", "blank", "null", "a number", "nested 5000 deep", "binary", "not UTF-8", "NUL", "10 MB in a line", "UTF-16")  # fmt: skip


def cases(base: Path) -> Iterator[Case]:
    """Make the cases of commands and of an endpoint's answers."""
    rng = random.Random(1)
    for kind, file, words, number in (
        ("decide", "results/small/tables/claims.csv", DECIDE, 24),
        ("map", f"{RUNS}grpo-offline-s101/predictors.json", ("map", *SMALL), 16),
        ("map", f"{RUNS}grpo-offline-s101/grades.csv", ("map", *SMALL), 8),
        ("figures", "results/small/figures/surprisals-s1.csv", ("figures", *SMALL), 16),
        ("power", f"{RUNS}grpo-online-every1-s101/grades.csv", ("power", *SMALL), 12),
        ("surprisal", "results/small/data/math_reasoning/s1/evaluation.jsonl", ("surprisal", "1", *SMALL), 8),
        ("compare", "other/tables/claims.csv", ("compare", "results/small", "other", *SMALL), 12),
    ):  # fmt: skip
        yield from _damaged(kind, base, file, words, number, rng)
    yield from _seconds(base, rng)
    yield from _looks()
    yield from _annotations(base)


def _damaged(kind: str, base: Path, file: str, words: tuple[str, ...], number: int, rng) -> Iterator[Case]:  # fmt: skip
    """Damage a file that a stage writes: some of all ways with its seal, and what is no file without it."""
    path = base / file
    if kind == "compare":
        path = base / "results/small/tables/claims.csv"
    every = list(damages(path, {}, rng))
    for name, content in rng.sample(every, number):
        yield Case(f"{kind}: sealed", f"{Path(file).name}: {name}", _files(base, file, content), words, expect="either", told=(Path(file).name,), quiet=False)  # fmt: skip
    for name in NO_FILE:
        files = _files(base, file, ANY[name](path.read_bytes(), rng)) | {_seal(file): None}
        yield Case(f"{kind}: not sealed", f"{Path(file).name}: {name}", files, words, expect="either", told=(Path(file).name,), quiet=False)  # fmt: skip


def _seal(file: str) -> str:
    return str(seal_of(Path(file)))


def _files(base: Path, file: str, content: bytes | None) -> dict[str, Change]:
    own: Change = (lambda path: path.mkdir()) if content == FOLDER else content
    return {file: own}


def _edited(base: Path, file: str, change: Callable[[str], str]) -> dict[str, Change]:
    """Change the text of a file, and remove its seal, as a person would."""
    return {file: change((base / file).read_text()).encode(), _seal(file): None}


def _seconds(base: Path, rng: random.Random) -> Iterator[Case]:
    """Verdicts that `decide` cannot follow, seconds of jobs that are none, and no workflow."""
    file = "results/small/tables/claims.csv"
    for name, change in {
        "no column claim": lambda text: text.replace("claim,", "name,"),
        "no column verdict": lambda text: text.replace(",verdict", ",word"),
        "no column looks": lambda text: text.replace(",looks", ",times"),
        "another verdict": lambda text: text.replace("undecided", "maybe"),
        "an empty verdict": lambda text: text.replace("undecided", ""),
        "a claim twice": lambda text: text + "online,supported,1\n",
        "a longer row": lambda text: text.replace("decided,1", "decided,1,2,3"),
        "a shorter row": lambda text: text.replace("undecided,1", "undecided"),
        "looks in words": lambda text: text.replace(",1", ",one"),
        "looks not whole": lambda text: text.replace(",1", ",1.5"),
        "more looks": lambda text: text.replace(",1", ",7"),
        "a column twice": lambda text: text.replace("claim,verdict,looks", "claim,verdict,verdict"),
    }.items():  # fmt: skip
        yield Case("decide: verdicts", name, _edited(base, file, change), DECIDE, told=("claims.csv",))  # fmt: skip
    job = "results/small/benchmarks/train/math_reasoning/grpo-online-every1-s1.tsv"
    values = ("", "-", "NA", "text", "nan", "inf", "-1", "1e400", "9" * 5000, "0x10", "1_000")
    contents = {f"seconds {value[:9]!r}": f"s\tmax_rss\n{value}\t9\n".encode() for value in values}
    contents |= {"no column s": b"t\tmax_rss\n600\t9\n", "no rows": b"s\tmax_rss\n", "a longer row": b"s\n600\t9\t9\n", "a shorter row": b"max_rss\ts\n600\n"}  # fmt: skip
    contents |= {name: ANY[name]((base / job).read_bytes(), rng) for name in NO_FILE}
    for name, content in contents.items():
        files = _files(base, job, content)
        expect = "right" if name in ("seconds '-'", "seconds 'NA'") else "refused"
        yield Case("decide: seconds of a job", name, files, DECIDE, expect=expect, told=(".tsv",))
    words = ("decide", "--minutes=900", *SMALL)
    yield Case(
        "decide: alone", "without a workflow", {}, words, told=("snakemake decide",), quiet=False
    )


def _looks() -> Iterator[Case]:
    taken = {"claim": "online", "look": 2, "seeds": [3], "date": "2026-11-27"}
    whole = json.dumps({"looks": LOOKS, "taken": [taken]})
    for name, content in {
        "of another number of seeds": whole.replace("[3]", "[3, 4]"),
        "a look twice": whole.replace("]}]", "]}, ]"),
        "without a verdict since": whole,
        "of no claim": whole.replace("online", "offline"),
        "with its seal of another file": whole,
    }.items():  # fmt: skip
        files: dict[str, Change] = {LOOKS_TAKEN: content.encode()}
        if "seal" in name:
            files[_seal(LOOKS_TAKEN)] = b'{"sha256": "0", "place": "x"}'
        yield Case("decide: looks taken", name, files, DECIDE, quiet=False)
    for name in ("a folder", "empty", "null", "a list"):
        files = _files(Path(), LOOKS_TAKEN, ANY[name](whole.encode(), random.Random(0)))
        yield Case("decide: looks taken", name, files, DECIDE, told=("looks.json",))


def _annotations(base: Path) -> Iterator[Case]:
    """The file of a person: compressed in odd ways, damaged, and with odd values."""
    plain, packed = ((base / f"annotations.json{end}").read_bytes() for end in ("", ".gz"))
    rows = json.loads(plain)
    bomb = 8 * gzip.compress(b" " * (1 << 24))  # members
    for name, content, expect in (
        ("cut", packed[:-9], "refused"),
        ("cut in its head", packed[:5], "refused"),
        ("empty", b"", "refused"),
        ("not compressed", plain, "refused"),
        ("another format", b"BZh9" + packed, "refused"),
        ("a bit", packed[:200] + bytes([packed[200] ^ 1]) + packed[201:], "refused"),
        ("with more behind it", packed + b"more", "refused"),
        ("with zeros behind it", packed + b"\0" * 100, "either"),
        ("in two members", gzip.compress(plain[:99]) + gzip.compress(plain[99:]), "either"),
        ("twice", packed + packed, "refused"),
        ("128 MB of blanks", bomb, "refused"),
        ("compressed twice", gzip.compress(packed), "refused"),
        ("a folder", FOLDER, "refused"),
    ):  # fmt: skip
        file = "annotations.json.gz"
        words = ("score_annotations", file, "--replicates=20")
        yield Case("annotations: compressed", name, _files(base, file, content), words, expect=expect, told=(file,))  # fmt: skip
    words = ("score_annotations", "annotations.json", "--replicates=20")
    rng = random.Random(3)
    for name in (*NO_FILE, "missing", "cut", "twice", "a list", "an empty object"):
        content = ANY[name](plain, rng)
        yield Case("annotations: no list of rows", name, _files(base, "annotations.json", content), words, told=("annotations.json",))  # fmt: skip
    yield from _odd_rows(rows, words)
    for name, path in {"a device of zeros": "/dev/zero", "a device of nothing": "/dev/null", "a link to itself": "annotations.json/x", "a process": "/proc/self/mem", "no name": "annotations"}.items():  # fmt: skip
        yield Case("annotations: no file", name, {}, ("score_annotations", path), told=(path,))


def _odd_rows(rows: list[dict], words: tuple[str, ...]) -> Iterator[Case]:
    odd: dict[str, tuple[object, str]] = {
        "a key twice": (json.dumps(rows).replace('"preference"', '"preference": 2, "preference"', 1), "refused"),
        "one row": (rows[:1], "right"),
        "two rows": (rows[:2], "right"),
        "no row with a preference": ([row | {"preference": None} for row in rows], "refused"),
        "one row with a preference": ([row | {"preference": None} for row in rows[1:]] + rows[:1], "right"),
        "all alike": ([row | {"preference": 2} for row in rows], "right"),
        "all draws": ([row | {"preference": 1.5} for row in rows], "right"),
        "all outputs empty": ([row | {"output_1": "", "output_2": ""} for row in rows], "right"),
        "all of one length": ([row | {"output_1": "a", "output_2": "b"} for row in rows], "right"),
        "one of a megabyte": ([rows[0] | {"output_2": "a" * 10**6}, *rows[1:]], "right"),
        "no generators": ([{k: v for k, v in row.items() if "generator" not in k} for row in rows], "right"),
        "generators of control characters": ([row | {"generator_2": "a\x1b[2J\nb"} for row in rows], "right"),
        "a generator in one row": ([rows[0] | {"generator_2": None}, *rows[1:]], "refused"),
        "a preference of 5000 digits": (json.dumps(rows).replace('"preference": 1.', '"preference": ' + "1" * 5000 + ".", 1), "refused"),
        "an integer of 5000 digits": (json.dumps([rows[0] | {"note": 0}, *rows[1:]]).replace('"note": 0', '"note": ' + "1" * 5000, 1), "either"),
        "an instruction of numbers": ([rows[0] | {"instruction": 7}, *rows[1:]], "refused"),
        "another text field of half a character": (json.dumps([rows[0] | {"annotator": "\ud800"}, *rows[1:]]), "either"),
        "a list in a list": ([rows], "refused"),
        "rows under a key": ({"annotations": rows}, "refused"),
        "lines of JSON": ("\n".join(map(json.dumps, rows)), "refused"),
        "NaN in another field": (json.dumps([rows[0] | {"price": float("nan")}, *rows[1:]]), "right"),
    }  # fmt: skip
    for name, (content, expect) in odd.items():
        text = content if isinstance(content, str) else json.dumps(content)
        yield Case("annotations: odd rows", name, {"annotations.json": text.encode()}, words, expect=expect, told=("annotations.json",))  # fmt: skip


def answers(lines: list[bytes]) -> Iterator[Case]:
    """Damage the file of an endpoint's answers.

    Args:
        lines: the lines of the file of a finished run.
    """
    first = json.loads(lines[0])

    def row(**changes: object) -> bytes:
        return json.dumps(first | changes).encode() + b"\n"

    def lacking(name: str) -> bytes:
        return json.dumps({k: v for k, v in first.items() if k != name}).encode() + b"\n"

    rest = lines[1:]
    whole = b"".join(lines)
    fine = {
        "none": None, "empty": b"", "as it should be": whole, "half of them": b"".join(lines[:8]), "its last line cut": whole[:-20], "its last line without its end": whole[:-1],
        "its last line cut within a character": whole + '{"key": "ü'.encode()[:-1], "half a line alone": lines[0][:30], "twice": whole + whole, "reversed": b"".join(lines[::-1]),
        "of another run": b"".join(line.replace(b'"key":"', b'"key":"0') for line in lines), "CRLF": whole.replace(b"\n", b"\r\n"), "a refusal before": row(top_logprobs=[], fault="a refusal") + whole,
        "an unknown fault": row(top_logprobs=[], fault="oh") + b"".join(rest),
    }  # fmt: skip
    for name, content in fine.items():
        yield Case("answers: can be used", name, {ANSWERS: content}, SCORE, expect="either" if name != "an unknown fault" else "right", quiet=False)  # fmt: skip
    token = first["top_logprobs"][0]
    bad = {
        "a blank line": b"\n", "null": b"null\n", "a number": b"7\n", "a list": b"[]\n", "an empty object": b"{}\n", "cut in the middle": lines[0][:30] + b"\n", "two in a line": lines[0].strip() + lines[1],
        "not UTF-8": row(key="x").replace(b'"x"', b'"\xff"'), "NUL": b"\0" * 9 + b"\n", "nested 5000 deep": b"[" * 5000 + b"\n", "a byte order mark": b"\xef\xbb\xbf" + lines[0], "UTF-16": lines[0].decode().encode("utf-16"),
        "10 MB": b"x" * 10_000_000 + b"\n", "an unknown field": row(new=1), "no key": lacking("key"), "no tokens": lacking("prompt_tokens"), "no answer, and no fault": lacking("top_logprobs"), "an empty answer": row(top_logprobs=[]),
        "negative tokens": row(prompt_tokens=-300), "negative retries": row(retries=-1), "tokens of 5000 digits": row(prompt_tokens=0).replace(b'"prompt_tokens": 0', b'"prompt_tokens": ' + b"9" * 5000), "tokens as text": row(prompt_tokens="300"),
        "NaN": row(top_logprobs=[token | {"logprob": float("nan")}]), "a probability above 1": row(top_logprobs=[token | {"logprob": 3.0}]), "another token alone": row(top_logprobs=[token | {"token": "The"}]), "a token twice": row(top_logprobs=[token, token]),
        "a key twice": lines[0].replace(b'{"key"', b'{"key":"a","key"'), "an empty key": row(key=""), "half a character": row(key="\ud800"), "an answer with a fault": row(fault="a refusal"),
        "too many tokens": row(prompt_tokens=10**15), "a fault that is empty": row(top_logprobs=[], fault=""),
    }  # fmt: skip
    for (name, content), words in itertools.product(bad.items(), (SCORE, ("judge_cost", *JUDGED))):
        kind = f"answers: {words[0]}"
        expect = "right" if name in ("a token twice", "too many tokens") else "refused"
        told = ("answers.jsonl",)
        yield Case(kind, name, {ANSWERS: lines[1] + content + b"".join(lines[2:])}, words, expect=expect, told=told, quiet=False)  # fmt: skip
    places: dict[str, Change] = {"a folder": lambda path: path.mkdir(), "a link to itself": lambda path: path.symlink_to(path.name), "a device": lambda path: path.symlink_to("/dev/full")}  # fmt: skip
    for name, change in places.items():
        yield Case("answers: no file", name, {ANSWERS: change}, SCORE, told=("answers.jsonl",), quiet=False)  # fmt: skip
