"""Prompts become the same ids in C++: by the embedded files, and by such as CLIP's and T5's."""

import base64
import json
import random
import shutil
import struct
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from a2edit.runtime.errors import BundleError, RequestError
from a2edit.runtime.tokenizer import PromptTokenizer

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "model" / "pretrained" / "a2edit-mini" / "base"
TEXT = (
    ROOT / "README.md"
).read_text() + " naïve café ÉCOLE Straße İ 中文 русский it's they're we'll"
CLIP = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
PIECES = [
    *TEXT.split(),
    *("<|startoftext|>", "<|endoftext|>", "</s>", "<unk>", "<extra_id_0>", "<EXTRA_ID_0>", "'s"),
    *(
        "'LL",
        "  ",
        "\t",
        "\n\n",
        "\u00a0",
        "\u3000",
        "e\u0301",
        "ﬁ",
        "①",
        "½",
        "😀👨\u200d👩\u200d👧",
    ),
    *("한국어", "हिन्दी", "\u200b", "\ufeff", "\0", "\x1f", "\x85", "…", "™", "ſ", "▁▁a", '"', "--"),
]


def charsmap(entries: dict[bytes, str]) -> str:
    """SentencePiece's form: a double array over the bytes replaced, and what replaces them."""
    units, taken, texts = [0] * (1 << 12), {0}, b""
    replaced = {}
    for key, text in entries.items():
        replaced[key] = len(texts)
        texts += text.encode() + b"\0"

    def place(prefix: bytes, node: int) -> None:
        depth = len(prefix)
        inner = {key[depth] for key in entries if key[:depth] == prefix and len(key) > depth}
        wanted = inner | ({0} if prefix in entries else set())
        base = next(at for at in range(1, 3000) if not {at ^ each for each in wanted} & taken)
        taken.update(base ^ each for each in wanted)
        units[node] |= (node ^ base) << 10 | (prefix in entries) << 8
        if prefix in entries:
            units[base] = replaced[prefix] | 1 << 31
        for byte in sorted(inner):
            units[base ^ byte] |= byte
            place(prefix + bytes([byte]), base ^ byte)

    place(b"", 0)
    array = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(array)) + array + texts).decode()


def like_clip(folder: Path) -> Path:
    tokenizer = Tokenizer(
        models.BPE(
            unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>"
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    ends = ("<|endoftext|>", 1), ("<|startoftext|>", 0)
    tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=False)
    config = json.loads(tokenizer.to_str())
    config["added_tokens"][0]["normalized"] = True  # as in the published file
    path = folder / "clip.json"
    path.write_text(json.dumps(config))
    return path


def like_t5(folder: Path, name: str, **changes: Any) -> Path:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=700,
        special_tokens=["<pad>", "</s>", "<unk>", "<extra_id_0>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    table = {"ﬁ": "fi", "①": "1", "\u00a0": " ", "\u3000": " ", "\t": " ", "\n": " ", "e": "E"}
    table |= {"e\u0301": "é", "…": "...", "\u200b": "", "™": "TM"}
    config = json.loads(tokenizer.to_str())
    config["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {
                "type": "Precompiled",
                "precompiled_charsmap": charsmap({k.encode(): v for k, v in table.items()}),
            },
            {"type": "Strip", "strip_left": False, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
        ],
    }
    config["added_tokens"][3] |= {"lstrip": True, "rstrip": True}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config | changes))
    return path


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
OLDER = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]}
FIRST = METASPACE | {"prepend_scheme": "first", "split": False}
FILES: dict[str, tuple[Callable[[Path], Path], int, int]] = {
    "text": (lambda _: EMBEDDED / "tokenizer_2" / "tokenizer.json", 77, 0),
    "pooled": (lambda _: EMBEDDED / "tokenizer" / "tokenizer.json", 24, 3),
    "CLIP": (like_clip, 77, 1),
    "T5": (lambda folder: like_t5(folder, "t5"), 64, 0),
    "older T5": (lambda folder: like_t5(folder, "older", pre_tokenizer=OLDER), 512, 0),
    "newer T5": (lambda folder: like_t5(folder, "newer", pre_tokenizer=FIRST), 30, 0),
}


@pytest.fixture(scope="module", params=FILES)
def both(request: Any, probe: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Encodes by Python and by C++."""
    make, length, pad = FILES[request.param]
    path = make(tmp_path_factory.mktemp("tokenizers"))
    tokenizer = PromptTokenizer(path, length, pad)

    def compare(prompt: str) -> None:
        out, text = np.zeros(length + 1, np.int64), prompt.encode()
        probe("encode_prompt", text, len(text), out)
        ids, cut = tokenizer.encode(prompt)
        assert out[:-1].tolist() == ids[0].tolist(), repr(prompt)
        assert bool(out[-1]) == cut

    probe("open_tokenizer", path, length, pad)
    return compare


def known(code: int) -> bool:
    """In any version of Unicode that the two sides may have."""
    return unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cn", "Cs", "Co")


LETTERS = [chr(code) for code in range(0x20000) if known(code)]


def test_prompts(both: Any) -> None:
    chance = random.Random(0)
    both("")
    for _ in range(600):
        words = chance.choices(PIECES, k=chance.randrange(30))
        both("".join(word + chance.choice([" ", " ", "", "  "]) for word in words))
        both("".join(chance.choices(LETTERS, k=chance.randrange(12))))


def test_every_letter(both: Any) -> None:
    for letter in LETTERS[:: 1 if len(LETTERS) < 5000 else 7]:
        both(f"a{letter}b {letter}")


def test_long_prompts(both: Any) -> None:
    for count in range(60, 90):
        both("word " * count)
    both("a" * 30_000)


CONFIG = json.loads((EMBEDDED / "tokenizer" / "tokenizer.json").read_text())
MODEL = CONFIG["model"]
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": {"type": "WordPiece"}}, 'the model "WordPiece" is not known here'),
    "no model": ({"model": None}, '"type" is missing|the model'),
    "dropout": ({"model": MODEL | {"dropout": 0.1}}, '"dropout" is not known here'),
    "merge": ({"model": MODEL | {"merges": ["a"]}}, "merge 1 is no pair of tokens"),
    "token": ({"model": MODEL | {"merges": [["a", "Q~"]]}}, 'token "Q~" of a merge is not in the'),
    "id": ({"model": MODEL | {"vocab": {"a": -1}}}, "an id is no whole number from 0 on"),
    "normalizer": (
        {"normalizer": {"type": "BertNormalizer"}},
        '"BertNormalizer" is not known here',
    ),
    "expression": (
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "x+"}, "content": ""}},
        'the regular expression of the normalizer "Replace", "x\\+" is not known here',
    ),
    "pre-tokenizer": ({"pre_tokenizer": {"type": "Digits"}}, '"Digits" is not known here'),
    "pattern": (
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Removed"}},
        '"Split", "x" is not known here',
    ),
    "post-processor": ({"post_processor": {"type": "Other"}}, '"Other" is not known here'),
    "charsmap": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        "Cannot parse precompiled_charsmap",
    ),
    "unknown": (
        {"model": {"type": "Unigram", "unk_id": 5, "vocab": [["a", 0.0]]}},
        "The `unk_id` is larger than vocabulary size",
    ),
    "single word": (
        {"added_tokens": [{"id": 0, "content": "x", "single_word": True}]},
        'the added token of a single word, "x" is not known here',
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_known_is_refused_by_name(probe: Any, tmp_path: Path, name: str) -> None:
    changes, text = BROKEN[name]
    path = tmp_path / "it's.json"
    path.write_text(json.dumps(CONFIG | changes))
    with pytest.raises(BundleError, match=text) as found:
        probe("open_tokenizer", path, 24, 0)
    assert str(found.value).startswith(f"tokenizer {str(path)!r} cannot be read: ")


@pytest.mark.parametrize("contents", [None, b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_files_that_are_no_tokenizers(probe: Any, tmp_path: Path, contents: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(BundleError):
        PromptTokenizer(path, 24, 0)
    with pytest.raises(BundleError, match="cannot be read: "):
        probe("open_tokenizer", path, 24, 0)


def test_sequences_without_end(probe: Any, tmp_path: Path) -> None:
    """Deep enough for a stack to overflow, were it walked."""
    path, depth = tmp_path / "deep.json", 20_000
    deep = '{"type": "Sequence", "normalizers": [' * depth + "]}" * depth
    path.write_text(json.dumps(CONFIG | {"normalizer": "deep"}).replace('"deep"', deep))
    with pytest.raises(BundleError, match="nested too deep"):
        probe("open_tokenizer", path, 24, 0)


def test_no_room_for_special_tokens(probe: Any) -> None:
    with pytest.raises(BundleError, match="special tokens alone exceed the length of 1"):
        probe("open_tokenizer", EMBEDDED / "tokenizer" / "tokenizer.json", 1, 0)


def test_prompts_that_are_no_text(probe: Any) -> None:
    probe("open_tokenizer", EMBEDDED / "tokenizer" / "tokenizer.json", 24, 0)
    out = np.zeros(25, np.int64)
    for text in (b"\xff", b"a\xc3", b"\xed\xa0\x80"):
        with pytest.raises(
            RequestError, match=r"^prompt is not valid Unicode: .*; give it as UTF-8$"
        ):
            probe("encode_prompt", text, len(text), out)


def test_hundreds_of_damaged_files_end_no_process(cpp_build: Path, tmp_path: Path) -> None:
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copy(EMBEDDED / name / "tokenizer.json", tmp_path / f"{name}.json")
    program = cpp_build / "tests" / "a2edit_damage"
    done = subprocess.run(
        [program, tmp_path, "500", "1"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    read, refused = map(int, done.stdout.split())
    assert read + refused == 1000
    assert min(read, refused) > 5
