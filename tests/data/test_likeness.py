from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sparsity_lab.data import likeness
from sparsity_lab.data.judging import normal_form
from sparsity_lab.data.likeness import (
    ALIKE,
    PERMUTATIONS,
    LookedAt,
    choose_signatures,
    near_pictures,
    pooled,
    signature,
    write_signatures,
)
from sparsity_lab.data.manifest import SPLITS, Manifest, Split, read_manifest
from sparsity_lab.data.mapped import ImageSplit, TextSplit, open_split
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.tokenizer import EOS, ByteCodec
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import ImageDataset, TextDataset
from sparsity_lab.specs.sources import JsonLines, PythonStdlib, TextFiles, TextSource

FILES = TextFiles(kind="files", path="x")
LINES = JsonLines(kind="jsonl", path="x")
LIBRARY = PythonStdlib(kind="python-stdlib")
WORDS = [
    "the",
    "of",
    "law",
    "sparse",
    "weight",
    "naïve",
    "☃",
    "zero",
    "model",
    "data",
    "it's",
    "and",
    "layer",
    "token",
    "mask",
]

DISGUISES: dict[str, Callable[[str], str]] = {
    "the same": lambda text: text,
    "CRLF": lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\r\n", "\n").replace("\n", "\r"),
    "blanks around": lambda text: f"\n\t {text} \n\n",
    "byte order mark": lambda text: f"\ufeff{text}",
    "marked and marked again": lambda text: f"\ufeff\n\ufeff{text} \ufeff",
    "blanks at line ends": lambda text: text.replace("\r\n", "\n").replace("\n", " \t\u3000\n"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
}


def random_text(random: np.random.Generator, words: int = 120) -> str:
    return " ".join(random.choice(WORDS) + str(random.integers(99)) for _ in range(words))


@given(st.text(), st.lists(st.sampled_from(sorted(DISGUISES)), max_size=4), st.sampled_from([FILES, LINES]))
@settings(max_examples=150, deadline=None)
def test_no_disguise_changes_the_normal_form(text: str, names: list[str], source: TextSource) -> None:
    text = text.replace("\r", "").encode(errors="ignore").decode()
    disguised = text
    for name in names:
        disguised = DISGUISES[name](disguised)
    form = normal_form(text.encode(), source)
    assert normal_form(disguised.encode(), source) == form == normal_form(form, source)


def test_a_usual_text_is_its_own_form_and_a_library_s_files_are_known_by_their_bytes() -> None:
    assert normal_form(b"two\nlines", FILES) == b"two\nlines"
    assert normal_form(b"one line", LINES) == b"one line"
    assert normal_form(b"\r\n\xef\xbb\xbfanything \n\n", LIBRARY) == b"\r\n\xef\xbb\xbfanything \n\n"
    assert normal_form(b"inner  blanks", LINES) != normal_form(b"inner blanks", LINES)
    assert normal_form(b"if a:\n  b", LINES) == b"if a:\n  b"


def test_the_form_of_long_blanks_takes_no_longer_than_that_of_words() -> None:
    assert normal_form(b"a" + b" " * 2**22 + b"b \n", LINES) == b"a" + b" " * 2**22 + b"b"


def test_twins_in_disguise_are_one_document_on_one_side(tmp_path: Path) -> None:
    random, folder = np.random.default_rng(0), tmp_path / "corpus"
    folder.mkdir()
    texts = [f"{random_text(random)}\nnumber {number}\n" for number in range(60)]
    for number, text in enumerate(texts):
        twin = DISGUISES[sorted(DISGUISES)[number % len(DISGUISES)]](text)
        (folder / f"{number:02d}a.txt").write_bytes(text.encode())
        (folder / f"{number:02d}b.txt").write_bytes(twin.encode())
    spec = TextDataset(version=1, content="text", source=TextFiles(kind="files", path=str(folder)), held_out=0.3)
    manifest = prepare(spec, tmp_path / "data")
    assert manifest.train.documents + manifest.heldout.documents == 60
    assert manifest.train.duplicates + manifest.heldout.duplicates == 60
    assert manifest.train.bytes + manifest.heldout.bytes == sum(len(text.encode()) for text in texts)
    assert manifest.near_duplicates is not None
    assert (manifest.near_duplicates.looked_at, manifest.near_duplicates.found) == (manifest.heldout.documents, 0)
    sides = [manifest.train.documents, manifest.heldout.documents]
    for path in folder.glob("*a.txt"):  # whichever twin comes first, the side is the same
        path.write_bytes(path.with_name(path.name.replace("a", "b")).read_bytes())
    again = prepare(spec, tmp_path / "again")
    assert [again.train.documents, again.heldout.documents] == sides


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(30, 200))
@settings(max_examples=60, deadline=None)
def test_signatures_agree_in_the_share_of_stretches_in_common(seed: int, edits: int, words: int) -> None:
    random = np.random.default_rng(seed)
    text = random_text(random, words)
    letters = list(text)
    for place in random.integers(0, len(letters), edits):
        letters[place] = "#"

    def stretches(one: str) -> set[bytes]:
        content = " ".join(one.casefold().split()).encode()
        return {content[first : first + 24] for first in range(len(content) - 23)}

    ours, theirs = stretches(text), stretches("".join(letters))
    share = len(ours & theirs) / len(ours | theirs)
    agree = (signature(text.encode()) == signature("".join(letters).encode())).mean()
    assert abs(agree - share) < 0.25
    assert (signature(text.upper().replace(" ", " \n").encode()) == signature(text.encode())).all()


def test_near_documents_are_found_and_others_are_not() -> None:
    random = np.random.default_rng(1)
    held_out = [random_text(random).encode() for _ in range(50)]
    looked_at = LookedAt.of(np.stack([signature(one) for one in held_out]))
    near = [one.replace(b"9", b"5", 1) for one in held_out[:20]]
    far = [random_text(random).encode() for _ in range(200)]
    half = [" ".join(one.decode().split()[:60]).encode() + random_text(random, 60).encode() for one in held_out[20:]]
    assert looked_at.near(near) == (set(range(20)), set(range(20)))
    assert looked_at.near([*far, *half]) == (set(), set())
    assert looked_at.near([b"", b"short"]) == looked_at.near([]) == (set(), set())
    assert LookedAt.of(np.empty((0, 128), np.uint64)).near(held_out) == (set(), set())
    assert ALIKE == 0.8


@pytest.mark.usefixtures("small_units")
def test_near_documents_are_counted_alike_by_any_number_of_processes(tmp_path: Path) -> None:
    random, folder = np.random.default_rng(2), tmp_path / "corpus"
    folder.mkdir()
    for number in range(4):
        rows = []
        for row in range(100):
            text = random_text(random)
            rows += [text, text.replace(" ", "  ", 2), text + " end"] if row % 2 else [text]
        content = "".join(json.dumps({"text": text}) + "\n" for text in rows)
        (folder / f"{number:02d}.jsonl").write_text(content, encoding="utf-8")
    spec = TextDataset(version=1, content="text", source=JsonLines(kind="jsonl", path=str(folder)), held_out=0.3)
    counted = [prepare(spec, tmp_path / str(workers), workers=workers) for workers in (1, 2)]
    assert counted[0] == counted[1]
    near = counted[0].near_duplicates
    assert near is not None
    assert near.looked_at == counted[0].heldout.documents
    triples = 3 * 200 * 0.3  # held-out ones of which a twin, of two, is most likely in training
    assert 0.75 * triples < near.found < triples * 1.1


def encoded(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], form: str = "PNG", **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def smooth(random: np.random.Generator, side: int = 32) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Something like a photograph: a few soft spots."""
    small = Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def image_spec(path: Path) -> ImageDataset:
    source = {"kind": "parquet-images", "path": str(path), "image": 16, "classes": 4}
    return ImageDataset.model_validate({"version": 1, "content": "images", "source": source, "held_out": 0.3})


def prepared(folder: Path, images: list[bytes], labels: list[int]) -> Manifest:
    folder.mkdir()
    pq.write_table(pa.table({"image": images, "label": labels}), folder / "a.parquet")
    manifest = prepare(image_spec(folder / "a.parquet"), folder / "data")
    assert read_manifest(folder / "data") == manifest
    return manifest


def test_equal_images_with_other_labels_are_counted_and_the_first_is_kept(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = [encoded(smooth(random)) for _ in range(30)]
    labels = [number % 4 for number in range(30)]
    manifest = prepared(tmp_path / "a", [*images, *images[:9]], [*labels, *labels[:4], *([3] * 5)])
    assert manifest.train.duplicates + manifest.heldout.duplicates == 9
    assert manifest.label_conflicts == sum(label != 3 for label in labels[4:9])
    kept = []
    for split in SPLITS:
        side = images_of(tmp_path / "a" / "data", split)
        kept += side.labels.read(0, len(side.labels)).tolist()
    assert sorted(kept) == sorted(labels)


def test_images_saved_again_are_near_and_others_are_not(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    originals = [smooth(random) for _ in range(60)]
    alone = prepared(tmp_path / "a", [encoded(one) for one in originals], [0] * 60)
    assert alone.near_duplicates is not None
    assert (alone.near_duplicates.looked_at, alone.near_duplicates.found) == (alone.heldout.documents, 0)
    both = [encoded(one) for one in originals] + [encoded(one, "JPEG", quality=85) for one in originals]
    manifest = prepared(tmp_path / "b", both, [0] * 120)
    assert manifest.near_duplicates is not None
    assert manifest.train.documents + manifest.heldout.documents == 120
    assert manifest.near_duplicates.found > 0.4 * manifest.heldout.documents


@pytest.mark.usefixtures("small_units")
def test_training_documents_near_held_out_ones_are_left_out_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    texts = [random_text(random) for _ in range(120)]
    (tmp_path / "source").mkdir()
    for number in range(3):
        rows = [text.replace("9", str(number), 1) for text in texts[:40]] + texts[40 + 20 * number : 60 + 20 * number]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in rows)
        (tmp_path / "source" / f"{number}.jsonl").write_text(lines)
    source = JsonLines(kind="jsonl", path=str(tmp_path / "source"))
    spec = TextDataset(version=1, content="text", source=source, held_out=0.3)
    assert "near_duplicates" in spec.model_dump()
    counted = prepare(spec, tmp_path / "counted")
    drop = spec.model_copy(update={"near_duplicates": "drop"})
    dropped = prepare(drop, tmp_path / "dropped")
    near = dropped.near_duplicates
    assert near is not None
    assert counted.near_duplicates is not None
    assert (near.looked_at, near.found) == (counted.heldout.documents, 0)
    assert dropped.heldout == counted.heldout
    assert dropped.train.documents == counted.train.documents - near.dropped
    assert dropped.train.duplicates == counted.train.duplicates
    assert 0 < counted.near_duplicates.found <= 120
    assert near.dropped >= counted.near_duplicates.found / 2
    assert prepare(drop, tmp_path / "two", workers=2) == dropped
    left = texts_of(tmp_path / "dropped")
    held_out = LookedAt.of(np.stack([signature(one) for one in texts_of(tmp_path / "dropped", "heldout")]))
    assert held_out.near(left) == (set(), set())
    assert sum(map(len, left)) == dropped.train.bytes
    monkeypatch.setattr("sparsity_lab.data.likeness.MOST_TO_DROP", 5)
    monkeypatch.setattr("sparsity_lab.data.prepare.MOST_TO_DROP", 5)
    with pytest.raises(DataError, match=r"held_out: is too large to leave out what is near it .*at most 5 examples"):
        prepare(drop, tmp_path / "three")


def test_a_folder_prepared_again_is_held_against_its_new_documents(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    path, found = tmp_path / "a.jsonl", []
    spec = TextDataset(
        version=1,
        content="text",
        source=JsonLines(kind="jsonl", path=str(path)),
        held_out=0.3,
        near_duplicates="drop",
    )
    for _ in range(2):
        texts = [random_text(random) for _ in range(40)]
        rows = texts + [text.replace("9", "5", 1) for text in texts]
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
        found.append(prepare(spec, tmp_path / "data"))
        assert found[-1] == prepare(spec, tmp_path / f"alone-{len(found)}")
    assert all(one.near_duplicates and one.near_duplicates.dropped for one in found)


@given(st.lists(st.sets(st.integers(0, 40), max_size=9), max_size=9), st.integers(1, 12), st.integers(0, 20))
def test_the_smallest_of_all_noted_are_chosen(
    tmp_path_factory: pytest.TempPathFactory, noted: list[set[int]], most: int, at_once: int
) -> None:
    folder = tmp_path_factory.mktemp("noted")
    paths = [folder / f"{number}.npy" for number in range(len(noted))]
    for path, keys in zip(paths, noted, strict=True):
        write_signatures(path, {key: np.full(PERMUTATIONS, key, np.uint64) for key in keys}, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparsity_lab.data.likeness.LOOKED_AT", at_once)
        count = choose_signatures(paths, folder / "chosen", most)
    expected = sorted(set().union(*noted))[:most]
    assert np.load(folder / "chosen")[:, 0].tolist() == expected
    assert count == len(expected)


def texts_of(folder: Path, split: Split = "train") -> list[bytes]:
    opened = open_split(folder, split, folder)
    assert isinstance(opened, TextSplit)
    ids = opened.tokens.read(0, len(opened.tokens))
    return [ByteCodec().decode(piece[:-1]) for piece in np.split(ids, np.flatnonzero(ids == EOS) + 1)[:-1]]


def images_of(folder: Path, split: Split) -> ImageSplit:
    opened = open_split(folder, split, folder)
    assert isinstance(opened, ImageSplit)
    return opened


def test_training_images_near_held_out_ones_are_left_out_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    originals = [smooth(random) for _ in range(60)]
    both = [encoded(one) for one in originals] + [encoded(one, "JPEG", quality=85) for one in originals]
    pq.write_table(pa.table({"image": both, "label": [0] * 120}), tmp_path / "a.parquet")
    spec = image_spec(tmp_path / "a.parquet")
    counted = prepare(spec, tmp_path / "counted")
    drop = spec.model_copy(update={"near_duplicates": "drop"})
    monkeypatch.setattr("sparsity_lab.data.likeness.HELD_OUT_AT_ONCE", 7)
    dropped = prepare(drop, tmp_path / "dropped")
    near = dropped.near_duplicates
    assert near is not None
    assert counted.near_duplicates is not None
    assert dropped.heldout == counted.heldout
    assert (near.looked_at, near.found) == (counted.heldout.documents, 0)
    assert near.dropped == counted.train.documents - dropped.train.documents >= counted.near_duplicates.found > 0
    sides = (images_of(tmp_path / "dropped", split).pixels for split in SPLITS)
    train, held_out = (pooled(side.read(0, len(side))) for side in sides)
    assert near_pictures([train], held_out) == 0
    monkeypatch.setattr("sparsity_lab.data.likeness.MOST_TO_DROP", 5)
    with pytest.raises(DataError, match="held_out: is too large to leave out what is near it"):
        prepare(drop, tmp_path / "three")


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]), st.integers(3, 40))
@settings(max_examples=60, deadline=None)
def test_pictures_are_compared_exactly(seed: int, channels: int, side: int) -> None:
    random = np.random.default_rng(seed)
    held_out = random.integers(0, 256, (7, side, side, channels), np.uint8)
    moved = np.clip(held_out.astype(int) + random.integers(-2, 3, held_out.shape), 0, 255).astype(np.uint8)
    others = random.integers(0, 256, (9, side, side, channels), np.uint8)
    assert near_pictures([pooled(others), pooled(moved[:3])], pooled(held_out)) >= 3
    flat = np.full((1, side, side, channels), 120, np.uint8)
    assert near_pictures([pooled(flat)], pooled(flat)) == 1
    assert near_pictures([pooled(flat + np.uint8(1))], pooled(flat)) == 0
    cells = min(side, 8)
    edges = np.arange(cells + 1) * side // cells
    first = held_out[0, : edges[1], : edges[1]].astype(float).mean(axis=(0, 1))
    assert np.abs(pooled(held_out)[0, 0] - first).max() <= 0.5


@given(
    st.lists(st.sampled_from(["Word", "ß", "字", " ", "\n", "\u2003", "\x1f", "ab c"]), max_size=60), st.integers(1, 40)
)
@settings(max_examples=200, deadline=None)
def test_a_document_in_parts_has_the_signature_of_the_whole(parts: list[str], size: int) -> None:
    document = "".join(parts).encode()
    whole = signature(document)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "AT_ONCE", size)
        assert (signature(document) == whole).all()


@pytest.mark.parametrize(("ours", "held_out"), [(0, 3), (3, 0), (0, 0)])
def test_no_pictures_are_like_none(ours: int, held_out: int) -> None:
    pooled = np.random.default_rng(0).integers(0, 255, (3, 64, 1), dtype=np.uint8)
    assert near_pictures([pooled[:ours]], pooled[:held_out]) == 0
