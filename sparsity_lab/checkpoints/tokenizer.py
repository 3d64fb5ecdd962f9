"""Our token ids for `transformers`: 0 pads, 1 ends, then the tokenizer's own ids, then sentinels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from sparsity_lab.data.own_ids import SENTINEL, OwnIds
from sparsity_lab.data.tokenizer import EOS, PAD, SPECIAL

Json = dict[str, Any]
PAD_TOKEN, END_TOKEN, MASK_TOKEN = "<pad>", "</s>", "<mask>"


def tokenizer_files(source: str, vocabulary: int, sentinels: int, *, masks: bool = False) -> dict[str, str]:
    """Content of `tokenizer.json` and `tokenizer_config.json` that give the ids a run was trained on.

    Args:
        source: the study's `tokenizer.json`; empty where a byte is a token.
        vocabulary: ids in use, padding and end included, sentinels apart.
        sentinels: how many the objective has; with any, texts are ended by the end token as in span corruption.
        masks: whether the first of them is a mask, after which nothing is ended.
    """
    tree = json.loads(source) if source else json.loads(_bytes_tokenizer())
    special = {PAD_TOKEN: PAD, END_TOKEN: EOS}
    names = [MASK_TOKEN] if masks else [SENTINEL.format(number) for number in range(sentinels)]
    special |= {name: vocabulary + number for number, name in enumerate(names)}
    _move(tree, special)
    tokenizer = Tokenizer.from_str(json.dumps(tree))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    if sentinels and not masks:
        tokenizer.post_processor = TemplateProcessing(f"$A {END_TOKEN}", special_tokens=[(END_TOKEN, EOS)])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD_TOKEN,
        "eos_token": END_TOKEN,
        "clean_up_tokenization_spaces": False,
        **({"mask_token": MASK_TOKEN} if masks else {}),
    }
    return {"tokenizer.json": tokenizer.to_str(pretty=True), "tokenizer_config.json": json.dumps(config, indent=2)}


def own_tokenizer_files(source: str, own: OwnIds) -> dict[str, str]:
    """The same files of a pretrained model's tokenizer, whose ids are as they were; none of ids without a tokenizer."""
    if not source:
        return {}
    tokenizer = Tokenizer.from_str(source)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": tokenizer.id_to_token(own.pad),
        "eos_token": tokenizer.id_to_token(own.end),
        "clean_up_tokenization_spaces": False,
        **({} if own.mask is None else {"mask_token": tokenizer.id_to_token(own.mask)}),
    }
    return {"tokenizer.json": source, "tokenizer_config.json": json.dumps(config, indent=2)}


def _move(tree: Json, special: dict[str, int]) -> None:
    """Give every token its id plus `SPECIAL`, and special tokens theirs, in place.

    All go into the model's vocabulary: the library numbers tokens outside it as it likes.
    """
    tree["post_processor"] = None
    added = tree.get("added_tokens") or []
    for token in added:
        token["id"] += SPECIAL
    ids = {token["content"]: token["id"] for token in added} | special
    model = tree["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {name: number + SPECIAL for name, number in model["vocab"].items()} | ids
    else:
        model["vocab"] = _listed(model["vocab"], ids.items())
        if model.get("unk_id") is not None:
            model["unk_id"] += SPECIAL


def _listed(pieces: list[list[Any]], ids: Iterable[tuple[str, int]]) -> list[list[Any]]:
    """Unigram's vocabulary is a list, its index the id; what nothing uses is filled."""
    names = dict(enumerate(pieces, start=SPECIAL)) | {number: [name, 0.0] for name, number in ids}
    return [names.get(number, [f"<unused_{number}>", 0.0]) for number in range(max(names) + 1)]


def _bytes_tokenizer() -> str:
    """Every byte a token, its value the id."""
    # byte-level tokenizers write a byte as itself where it can be printed, else from 256 on (Radford 2019)
    printable, others = {*range(33, 127), *range(161, 173), *range(174, 256)}, iter(range(256, 512))
    vocabulary = {chr(byte if byte in printable else next(others)): byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.to_str()
