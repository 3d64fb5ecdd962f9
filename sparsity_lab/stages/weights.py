"""Exporting a run's final weights, and looking at what any file of weights holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sparsity_lab.artifacts.paths import RECORD, WEIGHTS, Layout
from sparsity_lab.artifacts.records import RunRecord, read_record
from sparsity_lab.artifacts.store import all_homes
from sparsity_lab.checkpoints.encodings import encoding
from sparsity_lab.checkpoints.files import (
    TYPES,
    Weights,
    as_type,
    not_finite,
    read_weights,
    stored_bytes,
    write_weights,
)
from sparsity_lab.checkpoints.folder import FILES, write_folder
from sparsity_lab.checkpoints.plain import fingerprint_of
from sparsity_lab.checkpoints.survey import Survey, survey
from sparsity_lab.checkpoints.tokenizer import own_tokenizer_files, tokenizer_files
from sparsity_lab.data.manifest import Manifest, read_manifest, sentinels
from sparsity_lab.data.own_ids import OwnIds
from sparsity_lab.data.places import TOKENIZER
from sparsity_lab.errors import CheckpointError, DataError, NotReadyError, about
from sparsity_lab.messages import words_in
from sparsity_lab.models.build import parameter_shapes
from sparsity_lab.models.count import prunable_shapes
from sparsity_lab.specs.datasets import MaskedTokens
from sparsity_lab.specs.regimes.patterns import NofM
from sparsity_lab.stages.runs import find_run

HUGGING_FACE = "huggingface"
FORMATS = f"dense, two-four, bitmask, csr, int8, int4, {HUGGING_FACE}, or n:m with numbers"


@dataclass(frozen=True)
class Export:
    """What was written, and what other formats would take."""

    record: RunRecord
    path: Path
    format: str
    bytes: int
    """of all files written"""
    sizes: Mapping[str, int | None]
    """bytes of the tensors by format; None where the weights do not have its pattern"""
    tokenizer: bool
    """whether a tokenizer was written"""
    vanished: int
    """prunable weights that are zero in the type written, and were not"""


def export_run(
    run: str, form: str, to: Path, root: Path = Path(), *, dtype: str | None = None, force: bool = False
) -> Export:
    """Write a run's final weights.

    Args:
        run: its fingerprint, or the beginning of it.
        form: dense, two-four, n:m with numbers (1:4), bitmask, csr, int8 or int4 for one safetensors file; huggingface
            for a folder.
        to: the file or folder to write.
        root: the project's folder.
        dtype: type that weights are rounded to: float32, bfloat16 or float16; None leaves them as they are.
        force: replace what is at `to`.

    Raises:
        RecordError: no run, or more than one, has this name.
        NotReadyError: the study does not keep weights.
        CheckpointError: no such format or type; the target exists; the weights are damaged, lack the format's pattern
            or overflow the type.
        MachineError: the disk is full or the folder cannot be written.
    """
    try:
        how = None if form == HUGGING_FACE else encoding(form)
    except ValueError:
        raise CheckpointError("no such format", field="--format", found=form, expected=FORMATS) from None
    if dtype is not None and dtype not in TYPES:
        raise CheckpointError("no such type", field="--dtype", found=dtype, expected=", ".join(TYPES))
    _check_target(to, folder=form == HUGGING_FACE, force=force)
    record = find_run(run, root)
    kept, prunable = run_weights(record, root), set(prunable_shapes(record.spec.model))
    with about(f"run {record.fingerprint[:12]}"):
        weights = kept if dtype is None else as_type(kept, dtype)
    vanished = sum(int(((weights[name] == 0) & (kept[name] != 0)).sum()) for name in prunable)
    tokenizer: Mapping[str, str] = {}
    if how is None:
        tokenizer, own = run_tokenizer(record, root)
        write_folder(to, weights, record.spec.model, tokenizer, own)
    else:
        write_weights(to, weights, how, prunable=prunable, run=record.fingerprint)
    written = sum(file.stat().st_size for file in ([to] if to.is_file() else to.iterdir()))
    return Export(record, to, form, written, _sizes(record, weights, prunable), bool(tokenizer), vanished)


def inspect_weights(path: Path) -> Survey:
    """The zeros of a safetensors file or Hugging Face folder; a run's weights are held against its record.

    Raises:
        CheckpointError: a file is missing or damaged, or a run's weights are not those that its record counted.
        RecordError: the record beside a run's weights is damaged.
    """
    found = survey(path)
    record_file = path.with_name(RECORD)
    if path.name != WEIGHTS or not record_file.exists():
        return found
    record = read_record(record_file)
    prunable = prunable_shapes(record.spec.model)
    _check_same(path, "fingerprint", fingerprint_of(path) or record.fingerprint, record.fingerprint)
    sizes = {tensor.name: (tensor.size, tensor.zeros) for tensor in found.tensors}
    for counted in record.tensors if record.finished else ():
        _check_same(path, counted.name, sizes.get(counted.name, "nothing"), (counted.size, counted.zeros))
    tensors = tuple(replace(tensor, prunable=tensor.name in prunable) for tensor in found.tensors)
    return replace(found, run=record.fingerprint, tensors=tensors)


def _check_target(to: Path, *, folder: bool, force: bool) -> None:
    if not to.exists():
        return
    if to.is_dir() != folder:
        found, expected = ("a folder", "a file") if to.is_dir() else ("a file", "a folder")
        raise CheckpointError("cannot be written", where=to, found=found, expected=expected)
    if not force:
        raise CheckpointError("exists already; --force replaces it", where=to)
    others = sorted({file.name for file in to.iterdir()} - FILES) if folder else []
    if others:
        raise CheckpointError("holds what no export wrote; choose another folder", where=to, found=others[0])


def run_weights(record: RunRecord, root: Path) -> Weights:
    """A run's final weights, held against its record.

    Raises:
        NotReadyError: they were not kept.
        CheckpointError: they are damaged, or another run's.
    """
    places = [home / record.fingerprint for home in all_homes(Layout(root))]
    place = next((place for place in places if (place / WEIGHTS).is_file()), None)
    if place is None:
        raise _not_kept(record, [place for place in places if (place / RECORD).is_file()], root)
    weights = read_weights(place / WEIGHTS)
    check_shapes(place / WEIGHTS, weights, parameter_shapes(record.spec.model))
    written_by = fingerprint_of(place / WEIGHTS) or record.fingerprint
    _check_same(place / WEIGHTS, "fingerprint", written_by, record.fingerprint)
    nonzero = sum(int((weights[name] != 0).sum()) for name in prunable_shapes(record.spec.model))
    _check_same(place / WEIGHTS, "weights that are not zero", nonzero, record.nonzero)
    for name, weight in weights.items():
        if any(count := not_finite(weight)):
            found_there = f"{count[0]} NaN, {count[1]} infinite"
            raise CheckpointError(
                "is not the run's: no finite numbers", where=place / WEIGHTS, field=name, found=found_there
            )
    return weights


def check_shapes(path: Path, weights: Weights, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Hold names and shapes of tensors in a file against those of a run.

    Raises:
        CheckpointError: they are another run's: names file and tensor.
    """
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in {**expected, **found}:
        _check_same(path, name, found.get(name, "nothing"), expected.get(name, "no such tensor"))


def _check_same(path: Path, field: str, found: object, expected: object) -> None:
    """Hold what a run's weights are against its record."""
    if found != expected:
        raise CheckpointError("is not the run's", where=path, field=field, found=found, expected=str(expected))


def _not_kept(record: RunRecord, places: list[Path], root: Path) -> Exception:
    """How to get the weights of a run that lies in these places without them."""
    run = f"run {record.fingerprint[:12]}"
    if not record.finished:
        return CheckpointError(f"has no final weights: it diverged ({words_in()(record.reason)})", where=run)
    what = f"the weights file of {run}"
    studies = [place.parent for place in places if place.parent != Layout(root).archive]
    if not studies:
        return NotReadyError(what, make_it="keep_weights: true in a study that has the run, then train it")
    step = "search" if studies[0].parent.name == "search" else "train"
    name = studies[0].name
    return NotReadyError(
        what, make_it=f"keep_weights: true in {Layout(root).study_spec(name)}, then sparsity-lab {step} {name}"
    )


def _sizes(record: RunRecord, weights: Weights, prunable: set[str]) -> dict[str, int | None]:
    """Bytes by format, the run's own n:m pattern among them."""
    pruning = record.spec.pruning
    pattern = pruning and pruning.pattern
    own = [f"{pattern.n}:{pattern.m}"] if isinstance(pattern, NofM) and (pattern.n, pattern.m) != (2, 4) else []
    sizes: dict[str, int | None] = {}
    for name in ("dense", "two-four", *own, "bitmask", "csr"):
        try:
            sizes[name] = stored_bytes(weights, encoding(name), prunable=prunable)
        except CheckpointError:
            sizes[name] = None
    return sizes


def run_data(record: RunRecord, root: Path) -> tuple[Path, Manifest]:
    """The prepared data that a run was trained on, whichever study has them.

    Raises:
        NotReadyError: none has them any more.
    """
    for folder in sorted((Layout(root).root / "data").glob("*")):
        try:
            manifest = read_manifest(folder)
        except (NotReadyError, DataError):
            continue
        if manifest.content_hash == record.data_hash:
            return folder, manifest
    what = f"data with the hash {record.data_hash[:12]}, which the run was trained on"
    raise NotReadyError(what, make_it="sparsity-lab prepare STUDY")


def tokenizer_source(folder: Path, manifest: Manifest) -> str:
    """The `tokenizer.json` of prepared data; empty where they have none."""
    return (folder / TOKENIZER).read_text(encoding="utf-8") if manifest.tokenizer_sha256 else ""


def run_tokenizer(record: RunRecord, root: Path) -> tuple[dict[str, str], OwnIds | None]:
    """The tokenizer of the data that the run was trained on, and ids of its own, where a study still has them."""
    try:
        folder, manifest = run_data(record, root)
    except NotReadyError:
        return {}, None
    if not manifest.vocabulary:
        return {}, None
    source, objective = tokenizer_source(folder, manifest), record.spec.objective
    if manifest.own is not None:
        return own_tokenizer_files(source, manifest.own), manifest.own
    masks = isinstance(objective, MaskedTokens)
    return tokenizer_files(source, manifest.vocabulary, sentinels(objective), masks=masks), None
