"""Token ids of pretrained models: the tokenizer in a model's folder is used as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import WORDS
from pydantic import TypeAdapter
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from sparsity_lab.checkpoints.tokenizer import tokenizer_files
from sparsity_lab.data.manifest import content_hash, expected_shape, model_shape, sentinels
from sparsity_lab.data.mapped import TextSplit, open_split
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.stream import Stream
from sparsity_lab.data.tokenizer import load_tokenizer, restored_tokenizer
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import MaskedTokens, NextToken, SpanCorruption, TextDataset, TokenizerFile
from sparsity_lab.specs.datasets import Tokenizer as Tokenizers

TEXTS = [" ".join(WORDS[(n + k * k) % len(WORDS)] for k in range(40)) + f" {n}" for n in range(40)]
KNOWN = {"ids": {"eos_token_id": 2}, "list": {"eos_token_id": [2, 1]}, "name": {}, "none": {}}


def model_folder(
    folder: Path, *, filled: int = 0, said: str = "ids", sentinels: int = 0, template: bool = False, mask: bool = False
) -> Tokenizer:
    """A pretrained model's folder without its weights: special tokens first as in Llama, sentinels last as in T5."""
    folder.mkdir(parents=True)
    names = ["<unk>", "<s>", "</s>" if said != "none" else "word", "<pad>", *WORDS]
    names += [f"<extra_id_{n}>" for n in reversed(range(sentinels))]
    names += ["<mask>"] if mask else []
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names if name.startswith("<")])
    if template:
        tokenizer.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"model_type": "llama", "vocab_size": len(names) + filled, **KNOWN[said]}
    (folder / "config.json").write_text(json.dumps(config))
    if said == "name":
        special = {"eos_token": {"content": "</s>"}, "pad_token": "<pad>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return tokenizer


def dataset(tmp_path: Path, **tokenizer: object) -> TextDataset:
    source = tmp_path / "texts.jsonl"
    source.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    spec = {"version": 1, "content": "text", "source": {"kind": "jsonl", "path": str(source)}, "held_out": 0.3}
    file = {"kind": "file", "path": str(tmp_path / "model/tokenizer.json"), **tokenizer}
    return TextDataset.model_validate({**spec, "tokenizer": file})


def documents_of(split: TextSplit, end: int) -> set[tuple[int, ...]]:
    tokens = split.tokens.windows(np.array([0]), len(split.tokens))[0]
    cuts = np.flatnonzero(tokens == end) + 1
    assert cuts[-1] == len(tokens), "the last document is ended too"
    return {tuple(part.tolist()) for part in np.split(tokens, cuts)[:-1]}


@pytest.mark.parametrize("filled", [0, 8, 47])
@pytest.mark.parametrize("said", ["ids", "list", "name"])
@pytest.mark.parametrize("template", [False, True])
def test_ids_are_those_that_the_model_was_trained_with(
    tmp_path: Path, *, filled: int, said: str, template: bool
) -> None:
    tokenizer = model_folder(tmp_path / "model", filled=filled, said=said, template=template)
    spec = dataset(tmp_path)
    manifest = prepare(spec, tmp_path / "data")
    objective = NextToken(kind="next-token", length=16)
    assert model_shape(manifest, objective).vocabulary == tokenizer.get_vocab_size() + filled
    assert expected_shape(spec, objective) == model_shape(manifest, objective)
    found = set[tuple[int, ...]]()
    for side in ("train", "heldout"):
        split = open_split(tmp_path / "data", side, tmp_path / "cache")
        assert isinstance(split, TextSplit)
        found |= documents_of(split, end=2)
    ended = {tuple(tokenizer.encode(text).ids) + (() if template else (2,)) for text in TEXTS}
    assert found == ended


def test_ids_are_the_datas_own_wherever_the_models_folder_is_by_now(tmp_path: Path) -> None:
    model_folder(tmp_path / "model")
    spec = dataset(tmp_path)
    manifest = prepare(spec, tmp_path / "data")
    file = spec.tokenizer
    assert isinstance(file, TokenizerFile)
    source, before = Path(file.path).read_text(), load_tokenizer(file).encode_joined([TEXTS[0].encode()])[0]
    shutil.rmtree(tmp_path / "model")
    after = restored_tokenizer(file, source, manifest.own).encode_joined([TEXTS[0].encode()])[0]
    assert after.tolist() == before.tolist()


def test_sentinels_and_ends_are_the_models_own(tmp_path: Path) -> None:
    """T5's sentinels stand at the end of its vocabulary, the first one last."""
    tokenizer = model_folder(tmp_path / "model", filled=5, sentinels=20)
    prepare(dataset(tmp_path), tmp_path / "data")
    split = open_split(tmp_path / "data", "train", tmp_path / "cache")
    batch = Stream(split, SpanCorruption(kind="span-corruption", input_length=24), 8, 0).batch_at(0)
    first = tokenizer.token_to_id("<extra_id_0>")
    assert (batch["inputs"][:, -1] == 2).all()
    assert (batch["targets"][:, -1] == 2).all()
    assert (batch["targets"][:, 0] == first).all()
    assert int(batch["inputs"].max()) == first, "the next spans' sentinels are lower"


def test_too_few_sentinels_are_refused(tmp_path: Path) -> None:
    model_folder(tmp_path / "model", sentinels=1)
    with pytest.raises(DataError, match="too few sentinels"):
        expected_shape(dataset(tmp_path), SpanCorruption(kind="span-corruption", input_length=64))


def test_a_folder_that_does_not_say_how_documents_end_is_refused(tmp_path: Path) -> None:
    model_folder(tmp_path / "model", said="none")
    with pytest.raises(DataError, match="which token ends a document"):
        prepare(dataset(tmp_path), tmp_path / "data")


def test_an_embedding_without_a_row_for_every_token_is_refused(tmp_path: Path) -> None:
    model_folder(tmp_path / "model", filled=-1)
    with pytest.raises(DataError, match=r"config\.json.*vocab_size"):
        prepare(dataset(tmp_path), tmp_path / "data")


@pytest.mark.parametrize("kind", [{"kind": "bytes"}, {"kind": "bpe", "vocabulary": 280}])
def test_a_folder_that_we_exported_is_taken_back_with_its_own_tokenizer(tmp_path: Path, kind: dict[str, Any]) -> None:
    """Its ids, sentinels and vocabulary are those of the data that its run was trained on."""
    objective = SpanCorruption(kind="span-corruption", input_length=24)
    ours = dataset(tmp_path).model_copy(update={"tokenizer": TypeAdapter[Any](Tokenizers).validate_python(kind)})
    first = prepare(ours, tmp_path / "ours")
    source = (tmp_path / "ours/tokenizer.json").read_text() if first.tokenizer_sha256 else ""
    (tmp_path / "model").mkdir()
    config = {"model_type": "t5", "vocab_size": model_shape(first, objective).vocabulary}
    files = tokenizer_files(source, first.vocabulary, sentinels(objective)) | {"config.json": json.dumps(config)}
    for name, text in files.items():
        (tmp_path / "model" / name).write_text(text)
    again = prepare(dataset(tmp_path), tmp_path / "again")
    assert (again.train.sha256, again.heldout.sha256) == (first.train.sha256, first.heldout.sha256)
    assert model_shape(again, objective) == model_shape(first, objective)
    batches = [
        Stream(open_split(tmp_path / name, "train", tmp_path / "cache"), objective, 8, 0).batch_at(0)
        for name in ("ours", "again")
    ]
    assert all((batches[0][name] == batches[1][name]).all() for name in ("inputs", "targets"))


@pytest.mark.parametrize("asked", [{"ids": "shifted"}, {}])
def test_other_tokenizers_follow_our_ids(tmp_path: Path, asked: dict[str, str]) -> None:
    """Where the spec says so, and where no model lies beside the file."""
    tokenizer = model_folder(tmp_path / "model")
    if not asked:
        (tmp_path / "model/config.json").unlink()
    spec = dataset(tmp_path, **asked)
    codec = load_tokenizer(spec.tokenizer)  # type: ignore[arg-type]
    (ids,) = codec.encode([TEXTS[0].encode()])
    assert ids.tolist() == [number + 2 for number in tokenizer.encode(TEXTS[0]).ids]
    assert prepare(spec, tmp_path / "data").own is None


def test_a_mask_is_the_models_own_and_changes_no_datas_name(tmp_path: Path) -> None:
    objective = MaskedTokens(kind="masked", length=16)
    tokenizer = model_folder(tmp_path / "model", mask=True)
    spec = dataset(tmp_path)
    manifest = prepare(spec, tmp_path / "data")
    assert model_shape(manifest, objective).vocabulary == tokenizer.get_vocab_size()
    split = open_split(tmp_path / "data", "train", tmp_path / "cache")
    batch = Stream(split, objective, 8, 0).batch_at(0)
    hidden = batch["inputs"] == tokenizer.token_to_id("<mask>")
    assert hidden.any()
    assert (batch["labels"][hidden] >= 0).all()
    assert manifest.own is not None
    told = manifest.own.model_copy(update={"mask": None})
    assert content_hash(manifest.train, manifest.heldout, manifest.shape, manifest.tokenizer_sha256, told) == (
        manifest.content_hash
    )
    assert "mask" not in told.model_dump()


def test_a_model_without_a_mask_cannot_be_asked_for_hidden_tokens(tmp_path: Path) -> None:
    model_folder(tmp_path / "model")
    with pytest.raises(DataError, match="has no mask"):
        expected_shape(dataset(tmp_path), MaskedTokens(kind="masked", length=16))
