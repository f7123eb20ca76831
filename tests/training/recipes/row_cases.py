"""Bad rows, feedback files and files of rows: what is wrong with each, and how it has to end."""

import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipe_cases import ABSENT, GROUPS, Case, good_rows

_AT = 2  # the row that is wrong, on line 3
_LINE = f"line {_AT + 1}"
_IMAGE = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}]
Names = str | tuple[str, ...] | None


def user(text: Any) -> list[dict]:
    return [{"role": "user", "content": text}]


def answer(text: Any) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def all_cases() -> list[Case]:
    """All bad rows and files of rows."""
    found = []
    for make in (_values, _forms, _groups, _contradictions, _feedback, _files, _json, _whole_sets):
        found += make()
    return found


def _changed(rows: list[dict], change: dict, at: int = _AT) -> list[dict]:
    """The rows, one of them with other values."""
    rows = [dict(row) for row in rows]
    rows[at] = {k: v for k, v in (rows[at] | change).items() if v is not ABSENT}
    return rows


def _case(objective: str, change: dict, names: Names, kind: str = "row", **more) -> Case:
    shown = ", ".join(
        f"{k}={'(none)' if v is ABSENT else ascii(v)[:50]}" for k, v in change.items()
    )
    rows = _changed(good_rows(objective), change)
    return Case(kind, shown, objective, rows=rows, names=names, **more)


_NO_MESSAGES: tuple = (
    None,
    5,
    True,
    [],
    {},
    ["text"],
    [5],
    [None],
    [[]],
    {"role": "user", "content": "x"},
    [{"role": "user"}],
    [{"content": "x"}],
    [{"role": None, "content": "x"}],
    [{"role": "user", "content": None}],
    [{"role": "user", "content": 5}],
    [{"role": "robot", "content": "x"}],
    [{"role": "User", "content": "x"}],
    [{"role": "", "content": "x"}],
    [{"from": "human", "value": "x"}],
    [{"role": "user", "content": "x"}, "y"],
    ABSENT,
)


def _values() -> Iterator[Case]:
    """A value of another type for each column."""
    columns = {
        "dpo": ("prompt", "chosen", "rejected"),
        "kto": ("prompt", "completion"),
        "grpo": ("prompt",),
        "sampled": ("prompt",),
    }
    for objective, names in columns.items():
        for name in names:
            for value in _NO_MESSAGES:
                if objective == "dpo" and name == "prompt" and value is ABSENT:
                    continue  # pairs may begin with it
                yield _case(objective, {name: value}, _LINE)
    for value in (-1, 2, 0.5, None, "true", "1", "yes", [True], [], {}, ABSENT, 1e400):
        yield _case("kto", {"label": value}, _LINE)
    for value in (0, 1, 1.0, 0.0):
        rows = [row | {"label": type(value)(row["label"])} for row in good_rows("kto")]
        yield Case("row", f"label={value}", "kto", rows=rows)
    for value in (None, "4", 5, [], [1.0], [1.0] * 5, [1, 2, 3, None], ["1", "2", "3", "4"]):
        yield _case("grpo", {"scores": value}, _LINE)
    for score in (float("nan"), float("inf"), float("-inf"), 1e300, True, [1.0], {}, "nan"):
        yield _case("grpo", {"scores": [1.0, 2.0, 3.0, score]}, _LINE)
    yield _case("grpo", {"scores": [1, 2, 3, 4]}, None)
    yield _case("grpo", {"scores": [1e12, 1e12 + 1, 1e12 + 2, 1e12 + 3]}, ("scores",))
    yield _case("grpo", {"scores": ABSENT}, _LINE)
    for value in (None, "abcd", 5, [], ["a"], ["a"] * 5, ["a", "b", "c", None], ["a", "b", "c", 5]):
        yield _case("grpo", {"completions": value}, _LINE)
    yield _case("grpo", {"completions": ABSENT}, _LINE)


def _forms() -> Iterator[Case]:
    """Texts, conversations, roles in an odd order, tools and media."""
    two = [*user("a"), *answer("b"), *user("c")]
    for objective, name in (("dpo", "chosen"), ("kto", "completion")):
        yield _case(objective, {name: "a text"}, _LINE, "form")
        yield _case(objective, {name: user("x")}, _LINE, "form")
        yield _case(objective, {name: answer("")}, None, "form")
        yield _case(objective, {name: [{"role": "system", "content": "x"}]}, _LINE, "form")
        yield _case(objective, {name: [*user("other"), *answer("x")]}, _LINE, "form")
        yield _case(objective, {name: [*answer("x"), *user("y")]}, _LINE, "form")
        yield _case(objective, {name: [*answer("x"), *user("y"), *answer("z")]}, None, "form")
        yield _case(objective, {name: answer("a\0b")}, (_LINE,), "form")
        yield _case(objective, {name: answer("\ud800")}, _LINE, "form")
        yield _case(objective, {name: answer([{"type": "text", "text": "x"}])}, (_LINE,), "form")
        yield _case(objective, {name: answer([{"type": "image"}])}, "image", "form")
        yield _case(objective, {name: answer([5])}, _LINE, "form")
        yield _case(objective, {name: answer([])}, (_LINE,), "form")
    for objective in ("dpo", "kto", "grpo", "sampled"):
        is_text = objective == "sampled"
        yield _case(objective, {"prompt": user("x") if is_text else "x"}, _LINE, "form")
        yield _case(objective, {"prompt": " " if is_text else user(" ")}, (_LINE,), "form")
        yield _case(objective, {"prompt": "" if is_text else user("")}, (_LINE,), "form")
        yield _case(objective, {"prompt": _IMAGE}, _LINE if is_text else "image", "form")
        if not is_text:
            for turns in (two, answer("x"), [*user("a"), *user("b")], [*user("a"), *answer("b")]):
                yield _case(objective, {"prompt": turns}, (_LINE,), "form")
            system = [{"role": "system", "content": "s"}]
            yield _case(objective, {"prompt": system}, (_LINE,), "form")
            yield _case(objective, {"prompt": [*user("a"), *system]}, (_LINE,), "form")
            yield _case(objective, {"prompt": [*system, *system, *user("a")]}, (_LINE,), "form")
        for tools in ("[{", "5", 5, {"a": 1}, True):
            yield _case(objective, {"tools": tools}, _LINE, "form")
        yield _case(objective, {"tools": [5]}, (_LINE,), "form")
        yield _case(objective, {"tools": []}, None, "form")
        yield _case(objective, {"tools": None}, None, "form")
        for options in (5, "x", [1]):
            yield _case(objective, {"chat_template_kwargs": options}, _LINE, "form")
        reserved = {"chat_template_kwargs": {"tokenize": False}}
        yield _case(objective, reserved, ("chat_template_kwargs",), "form")
        yield _case(objective, {"images": ["a.png"]}, "image", "form")
        yield _case(objective, {"extra": [1, "a", None]}, (_LINE,), "form")
        names = ("prompt_ids", "input_ids", "longest", "completion_ids", "stored_completion_ids")
        for name in (*names, "KL_completion_ids", "stored_prompt_ids", "advantages"):
            rows = [row | {name: [1, 2]} for row in good_rows(objective)]
            yield Case("form", f"a column {name}", objective, rows=rows, names=(name,))
    plain = [{"prompt": "a", "chosen": f"b{i}", "rejected": f"c{i}"} for i in range(8)]
    yield Case("form", "texts", rows=plain)
    yield Case("form", "an empty text to learn", rows=_changed(plain, {"chosen": ""}))
    yield Case("form", "both texts empty", rows=_changed(plain, {"chosen": "", "rejected": ""}))
    yield Case("form", "a prompt for some", rows=_changed(plain, {"prompt": ABSENT}), names=_LINE)
    yield Case("form", "an empty prompt", rows=_changed(plain, {"prompt": ""}), names=_LINE)
    mixed = plain[:4] + good_rows("dpo")[:4]
    yield Case("form", "texts, then conversations", rows=mixed, names="line 5")
    yield Case("form", "columns of the hub", rows=[{"question": "a", "response_j": "b"}] * 8,
               names="dataset_name")  # fmt: skip


def _groups() -> Iterator[Case]:
    kind, rows = "group", good_rows("grpo")
    one = [row | {"completions": ["a"], "scores": [1.0]} for row in rows]
    yield Case(kind, "of one", "grpo", rows=one, names=("num_generations",))
    of_one = {"num_generations": 1}
    yield Case(kind, "of one, as told", "grpo", rows=one, options=of_one, names="num_generations")
    two = [row | {"completions": ["a", "b"], "scores": [1.0, 2.0]} for row in rows]
    yield Case(kind, "of two", "grpo", rows=two, names="completions: 2, but num_generations is 4")
    equal = [row | {"scores": [1.0] * 4} for row in rows]
    yield Case(kind, "all scores equal", "grpo", rows=equal, names="nothing to learn")
    yield Case(kind, "scores equal in one", "grpo", rows=_changed(rows, {"scores": [1.0] * 4}))
    same = [row | {"completions": ["a"] * 4} for row in rows]
    yield Case(kind, "all completions equal", "grpo", rows=same, names=("completions",))
    yield Case(kind, "each row twice", "grpo", rows=rows * 2)
    yield Case(kind, "one row", "grpo", rows=rows[:1])
    yield Case(kind, "empty completions", "grpo", rows=_changed(rows, {"completions": [""] * 4}))
    both = ["a", "b", answer("c"), answer("d")]
    yield Case(kind, "texts and turns", "grpo", rows=_changed(rows, {"completions": both}),
               names=_LINE)  # fmt: skip
    texts = [row | {"prompt": row["prompt"][0]["content"]} for row in rows]
    yield Case(kind, "prompts as texts", "grpo", rows=texts)
    yield Case(kind, "too few for a batch", "grpo", rows=rows[:1], names="prompts",
               options={"per_device_train_batch_size": 8})  # fmt: skip
    yield Case(kind, "sampled from, though scored", "sampled", rows=rows, names="reward_funcs")
    yield Case(kind, "scores without completions", "sampled", rows=[
        {"prompt": "a", "scores": [1.0]} for _ in range(8)])  # fmt: skip


def _contradictions() -> Iterator[Case]:
    """Rows that say the opposite of others; annotators may, so all are told and trained on."""
    kind, pairs, labelled = "contradiction of rows", good_rows("dpo"), good_rows("kto")
    same = [row | {"rejected": row["chosen"]} for row in pairs]
    yield Case(kind, "chosen is rejected", rows=same, names="nothing to learn")
    equal = _changed(pairs, {"rejected": pairs[_AT]["chosen"]})
    yield Case(kind, "chosen is rejected in one", rows=equal)
    swapped = pairs + [r | {"chosen": r["rejected"], "rejected": r["chosen"]} for r in pairs[:2]]
    yield Case(kind, "a pair both ways", rows=swapped)
    both = labelled + [row | {"label": not row["label"]} for row in labelled[:2]]
    yield Case(kind, "desirable and not", "kto", rows=both)
    all_both = labelled + [row | {"label": not row["label"]} for row in labelled]
    yield Case(kind, "all desirable and not", "kto", rows=all_both)
    for label in (True, False):
        rows = [row | {"label": label} for row in labelled]
        yield Case(kind, f"all {label}", "kto", rows=rows)
    no_kl = {"loss_type": "apo_zero_unpaired"}
    yield Case(kind, "all desirable, no KL", "kto", rows=rows, options=no_kl)
    yield Case(kind, "one row", "kto", rows=labelled[:1])
    yield Case(kind, "one pair", "kto", rows=pairs[:1])
    yield Case(kind, "one pair", "dpo", rows=pairs[:1])
    yield Case(kind, "each row twice", "dpo", rows=pairs * 2)


# Feedback files.


def feedback(kind: str) -> list[dict]:
    """The groups as HALOs writes them: `binary` or `pairwise` feedback."""
    rows = []
    for number, group in enumerate(GROUPS):
        shared = {"prompt_id": str(number), "prompt": user(group["prompt"])}
        shared |= {"type": f"{kind}_feedback"}
        outputs = [answer(text) for text in group["completions"]]
        scores = group["scores"]
        if kind == "binary":
            for output, score in zip(outputs, scores, strict=True):
                rows.append(shared | {"output": output, "label": int(score > 1), "reward": score})
            continue
        for a, b in ((0, 1), (2, 3)):
            pair = {"output_A": outputs[a], "reward_A": scores[a]}
            pair |= {"output_B": outputs[b], "reward_B": scores[b]}
            rows.append(shared | pair | {"label": int(scores[a] > scores[b])})
    return rows


def _feedback() -> Iterator[Case]:
    kind, binary, pairwise = "feedback", feedback("binary"), feedback("pairwise")
    place = f"row {_AT}"
    for objective, rows in (
        ("kto", binary),
        ("dpo", pairwise),
        ("grpo", pairwise),
        ("kto", pairwise),
    ):
        yield Case(kind, f"good, {rows[0]['type']}", objective, rows=rows)
    for name in ("prompt", "output"):
        for value in _NO_MESSAGES:
            yield _wrong("kto", binary, {name: value}, place)
    for value in (-1, 2, 0.5, None, "1", [], ABSENT, True, 1.0):
        names = None if value in (True, 1.0) and value is not ABSENT else place
        yield _wrong("kto", binary, {"label": value}, names)
        yield _wrong("dpo", pairwise, {"label": value}, names)
    for value in (None, "0.5", float("nan"), float("inf"), [], True, 1e300, ABSENT):
        for objective in ("dpo", "grpo"):
            names: Names = _LINE if value != value or value == float("inf") else place
            names = ("group 1",) if value == 1e300 else names
            yield _wrong(objective, pairwise, {"reward_A": value}, names)
    for value in (None, 1.5, [], True, ABSENT, {"a": 1}):
        yield _wrong("kto", binary, {"prompt_id": value}, place)
    for value in ("pairwise_feedback", "binary", None, 5, ABSENT, ["binary_feedback"]):
        yield _wrong("kto", binary, {"type": value}, place)
    for value in ("test", 5, [], {"a": 1}):
        yield _wrong("kto", binary, {"split": value}, None if value == "test" else place)
    others = [row | {"split": "test"} for row in binary]
    yield Case(kind, "no row of the split", "kto", rows=others, names="split")
    yield Case(kind, "binary for pairs", "dpo", rows=binary, names="dpo needs")
    yield Case(kind, "mixed", "kto", rows=binary[:4] + pairwise[:4], names="row 4: type")
    yield Case(kind, "mixed", "dpo", rows=pairwise[:4] + binary[:4], names="row 4: type")
    plain = [{k: v for k, v in row.items() if k != "type"} for row in binary]
    yield Case(kind, "without a type", "kto", rows=plain, names="dataset_name")
    yield Case(kind, "after other rows", "kto", rows=good_rows("kto")[:2] + binary, names=_LINE)
    other = _changed(pairwise, {"prompt": user("other")}, 3)
    yield Case(kind, "a prompt_id of two prompts", "grpo", rows=other, names="row 3: prompt_id")
    differs = [*pairwise, pairwise[0] | {"reward_A": 9.0}]
    yield Case(kind, "an output with two rewards", "grpo", rows=differs, names="reward")
    yield Case(
        kind, "groups of different sizes", "grpo", rows=pairwise[1:], names="num_generations"
    )
    yield Case(kind, "each row twice", "grpo", rows=pairwise * 2)
    equal = [row | {"output_B": row["output_A"]} for row in pairwise]
    yield Case(kind, "A is B", "dpo", rows=equal, names="nothing to learn")
    alike = [row | {"reward_A": 1.0, "reward_B": 1.0} for row in pairwise]
    yield Case(kind, "all rewards equal", "grpo", rows=alike, names="nothing to learn")
    for turns in ([*answer("a"), *answer("b")], user("a"), [*user("a"), *answer("b")]):
        yield _wrong("kto", binary, {"output": turns}, (place,))
        yield _wrong("grpo", pairwise, {"output_A": turns}, place)
    against = [row | {"label": 1 - row["label"]} for row in pairwise]
    yield Case(kind, "labels against rewards", "dpo", rows=against)
    stream = {"dataset_streaming": True}
    yield Case(kind, "as a stream", "kto", rows=binary, options=stream)
    bad = _changed(binary, {"label": 7})
    yield Case(kind, "a bad row of a stream", "kto", rows=bad, options=stream, names=place)
    many = _bytes_of_list(bad)
    yield Case(kind, "as a list", "kto", rows=many, file="rows.json", names=place)


def _wrong(objective: str, rows: list[dict], change: dict, names: Names) -> Case:
    case = _case(objective, {}, names, "feedback")
    case.rows = _changed(rows, change)
    case.name = f"{rows[0]['type']}: " + ", ".join(
        f"{k}={'(none)' if v is ABSENT else ascii(v)[:50]}" for k, v in change.items()
    )
    return case


def _bytes_of_list(rows: list[dict]) -> bytes:
    return json.dumps(rows).encode()


# Files.


def _lines(rows: list[dict] | None = None) -> bytes:
    rows = good_rows("dpo") if rows is None else rows
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(rows: list[dict]) -> bytes:
    from datasets import Dataset

    content = io.BytesIO()
    Dataset.from_list(rows).to_parquet(content)
    return content.getvalue()


def _no_permission(folder: Path) -> None:
    (folder / "rows.jsonl").chmod(0)


def _folder(name: str):
    def prepare(folder: Path) -> None:
        (folder / "rows.jsonl").unlink()
        (folder / "rows.jsonl").mkdir()
        if name:
            (folder / "rows.jsonl" / name).write_bytes(_lines())

    return prepare


def _fifo(folder: Path) -> None:
    (folder / "rows.jsonl").unlink()
    os.mkfifo(folder / "rows.jsonl")


def _link_to(target: str):
    def prepare(folder: Path) -> None:
        (folder / "rows.jsonl").unlink()
        (folder / "rows.jsonl").symlink_to(target)

    return prepare


def _files() -> Iterator[Case]:
    kind, name, good = "file", "dataset_name", _lines()
    yield Case(kind, "empty", rows=b"", names="rows.jsonl")
    yield Case(kind, "blank lines", rows=b"\n \n\n", names="rows.jsonl")
    yield Case(kind, "blank lines between", rows=good.replace(b"\n", b"\n\n"))
    yield Case(kind, "BOM", rows=b"\xef\xbb\xbf" + good)
    yield Case(kind, "CRLF", rows=good.replace(b"\n", b"\r\n"))
    yield Case(kind, "CR alone", rows=good.replace(b"\n", b"\r"), names="rows.jsonl")
    yield Case(kind, "UTF-16", rows=good.decode().encode("utf-16"), names="UTF-8")
    yield Case(kind, "Latin-1", rows=good.replace(b"1+1", "1é".encode("latin-1")), names="UTF-8")
    yield Case(kind, "a NUL byte", rows=good.replace(b"2+1", b"2\0 1"), names=_LINE)
    yield Case(kind, "NULs at the end", rows=good + b"\0" * 4096, names="line 9")
    yield Case(kind, "cut off", rows=good[:-20], names="line 8")
    yield Case(kind, "a list", rows=_bytes_of_list(good_rows("dpo")))
    yield Case(kind, "a list named .json", rows=_bytes_of_list(good_rows("dpo")), file="rows.json")
    yield Case(kind, "lines named .json", rows=good, file="rows.json")
    yield Case(kind, "an empty list", rows=b"[]", file="rows.json", names="rows.json")
    yield Case(kind, "one object", rows=b'{\n"a": 1\n}\n', file="rows.json", names="rows.json")
    yield Case(kind, "rows below a key", rows=b'{"data": []}', file="rows.json", names=name)
    yield Case(
        kind, "columns of lists", rows=b'{"chosen": ["a"], "rejected": ["b"]}', names="line 1"
    )
    for ending in ("csv", "tsv", "txt", "jsonl.gz", "zip", "zst", "xz", "arrow", "xlsx", "bz2",
                   "feather", "orc", "ndjson", "yaml", "pkl", "pt", "sqlite"):  # fmt: skip
        yield Case(kind, f".{ending}", rows=good, file=f"rows.{ending}", names=f"rows.{ending}")
    yield Case(kind, "without an ending", rows=good, file="rows", names="rows")
    yield Case(kind, "an ending in capitals", rows=good, file="rows.JSONL", names="rows.JSONL")
    yield Case(kind, "gzip named .jsonl", rows=gzip.compress(good), names="rows.jsonl")
    yield Case(kind, "Parquet named .jsonl", rows=_parquet(good_rows("dpo")), names="rows.jsonl")
    yield Case(kind, "lines named .parquet", rows=good, file="rows.parquet", names="rows.parquet")
    whole = _parquet(good_rows("dpo"))
    yield Case(kind, "Parquet", rows=whole, file="rows.parquet")
    yield Case(
        kind, "Parquet, cut off", rows=whole[:-50], file="rows.parquet", names="rows.parquet"
    )
    yield Case(kind, "Parquet, empty file", rows=b"", file="rows.parquet", names="rows.parquet")
    damaged = whole[:100] + b"\xff" * 40 + whole[140:]
    yield Case(kind, "Parquet, damaged", rows=damaged, file="rows.parquet", names="rows.parquet")
    bad = _parquet(_changed(good_rows("kto"), {"label": None}))
    yield Case(kind, "Parquet, a null", "kto", rows=bad, file="rows.parquet", names=f"row {_AT}")
    yield Case(kind, "a space and quotes", rows=good, file="my 'rows\" é.jsonl")
    yield Case(kind, "a star", rows=good, file="rows*[1].jsonl")
    yield Case(kind, "a star, Parquet", rows=whole, file="rows*[1].parquet")
    yield Case(kind, "two colons", rows=whole, file="a::b.parquet")
    yield Case(kind, "a scheme", rows=good, options={name: "zip://rows.jsonl"}, names=name)
    yield Case(kind, "an address", options={name: "https://127.0.0.1:9/rows.jsonl"}, names=name)
    yield Case(kind, "a folder", prepare=_folder("train.jsonl"), names=name)
    yield Case(kind, "an empty folder", prepare=_folder(""), names=name)
    yield Case(kind, "a fifo", prepare=_fifo, names="rows.jsonl")
    yield Case(kind, "/dev/zero", prepare=_link_to("/dev/zero"), names="rows.jsonl")
    yield Case(kind, "/dev/null", prepare=_link_to("/dev/null"), names="rows.jsonl")
    yield Case(kind, "a link to itself", prepare=_link_to("rows.jsonl"), names="rows.jsonl")
    yield Case(kind, "a dangling link", prepare=_link_to("none.jsonl"), names="rows.jsonl")
    if os.geteuid():
        yield Case(kind, "no permission", prepare=_no_permission, names="rows.jsonl")
    for streaming in (False, True):
        broken = good.replace(b'"2+1"', b'"2+1')
        options = {"dataset_streaming": streaming}
        yield Case(
            kind, f"a broken line, stream {streaming}", rows=broken, options=options, names=_LINE
        )
        wrong = _lines(_changed(good_rows("dpo"), {"chosen": None}))
        yield Case(kind, f"a null, stream {streaming}", rows=wrong, options=options, names=_LINE)


def _json() -> Iterator[Case]:
    """Lines that are no JSON, or more than a dataset can hold."""
    good = _lines()
    start, end = good.split(b"\n")[:2], good.split(b"\n")[3:]
    for line, name in (
        (b"{", "an open brace"),
        (b"}", "a closing brace"),
        (b"null", "null"),
        (b"5", "a number"),
        (b'"text"', "a text"),
        (b"[]", "a list"),
        (b"{}", "an empty object"),
        (b"NaN", "NaN"),
        (b'{"prompt": NaN}', "NaN within"),
        (b'{"prompt": "a", "chosen": "b", "rejected": Infinity}', "Infinity"),
        (b"{'prompt': 'a'}", "single quotes"),
        (b'{"prompt": "a",}', "a comma too many"),
        (b'{"prompt": "a", "prompt": "b", "chosen": "c", "rejected": "d"}', "a key twice"),
        (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "an integer of 5000 digits"),
        (b'{"a": 1e400}', "1e400"),
        (b'{"prompt": "\\ud800"}', "half a character"),
        (b'{"prompt": "\\ud83d\\ude00"}', "a pair of halves"),
        (b"// a comment", "a comment"),
        (b'{"prompt": "a\tb"}', "a tab in a text"),
        (b'{"prompt": "a", "chosen"', "cut off"),
        (b'{"a": 1}{"a": 2}', "two objects"),
        (b"\x00", "NUL"),
        (b"\xff", "no UTF-8"),
        (b'{"prompt": yes}', "a word"),
    ):
        rows = b"\n".join([*start, line, *end])
        yield Case("JSON", name, rows=rows, names=_LINE)
    integer = [row | {"id": 2**70} for row in good_rows("dpo")]
    yield Case("JSON", "an integer of 70 bits", rows=integer, names="line 1")
    for size in (10**5, 10**7):
        long = _changed(good_rows("dpo"), {"chosen": answer("a" * size)})
        yield Case("JSON", f"an answer of {size} letters", rows=long)
        long = _changed(good_rows("dpo"), {"prompt": user("1" * size)})
        yield Case("JSON", f"a prompt of {size} letters", rows=long)
    wide = [row | {f"c{i}": i for i in range(3000)} for row in good_rows("dpo")]
    yield Case("JSON", "3000 columns", rows=wide)
    odd = [row | {"": 1, "a.b": 2, "é ": 3} for row in good_rows("dpo")]
    yield Case("JSON", "odd names of columns", rows=odd)
    types = _changed([row | {"meta": {"a": 1}} for row in good_rows("dpo")], {"meta": "text"})
    yield Case("JSON", "a column of two types", rows=types, names=("rows.jsonl",))
    nested = _changed([row | {"meta": [1]} for row in good_rows("dpo")], {"meta": [["a"]]})
    yield Case("JSON", "a column of lists of two depths", rows=nested, names=("rows.jsonl",))


def _whole_sets() -> Iterator[Case]:
    """Data of which nothing is left, or that do not suit the options."""
    kind = "whole set"
    long = [row | {"prompt": user("1+" * 30)} for row in good_rows("dpo")]
    yield Case(
        kind, "all prompts too long", rows=long, options={"max_length": 16}, names="max_length"
    )
    one_left = _changed(long, {"prompt": user("1")})
    yield Case(kind, "all but one too long", rows=one_left, options={"max_length": 16})
    end = {"max_length": 16, "truncation_mode": "keep_end"}
    yield Case(kind, "prompts cut at the start", rows=long, options=end)
    context = [row | {"prompt": user("1+" * 100)} for row in good_rows("dpo")]
    # As in TRL: with rotary positions it has a meaning.
    yield Case(kind, "beyond the context", rows=context, options={"max_length": None})
    yield Case(kind, "max_length beyond the context", options={"max_length": 10**6},
               names=("max_length",))  # fmt: skip
    prompts = [{"prompt": "1+" * 4000} for _ in range(8)]
    yield Case(kind, "sampled beyond the context", "sampled", rows=prompts, names="context")
    drop = {"dataloader_drop_last": True, "per_device_train_batch_size": 64}
    yield Case(kind, "less than a batch", rows=good_rows("dpo"), options=drop,
               names="per_device_train_batch_size")  # fmt: skip
    for columns in ({"messages": user("a")}, {"text": "a"}, {"prompt": "a", "completion": "b"}):
        for objective in ("dpo", "kto", "grpo"):
            yield Case(kind, f"columns {', '.join(columns)}", objective, rows=[columns] * 8,
                       names="dataset_name")  # fmt: skip
    test_is_bad = {"eval_strategy": "epoch", "dataset_test_split": "test"}
    yield Case(kind, "no test split", options=test_is_bad, names="dataset_test_split")
    unknown = [row | {"prompt": user("日本語 ñ 🤷")} for row in good_rows("dpo")]
    yield Case(kind, "letters that the tokenizer lacks", rows=unknown, names=("prompt",))
