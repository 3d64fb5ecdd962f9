"""Files of weights that runs start from: named by a path in a regime's spec, known to runs by their content."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from sparsity_lab.artifacts.weights import content_sha256
from sparsity_lab.errors import CheckpointError, SpecError
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.loading import place
from sparsity_lab.specs.regimes.starts import HuggingFace, WeightsFile
from sparsity_lab.specs.runs import FileOrigin


def file_origin(study: Study, regime: str, start: WeightsFile | HuggingFace) -> FileOrigin:
    """What a run knows of the file or folder that a regime names.

    Raises:
        SpecError: it is missing or cannot be read.
    """
    path = study.project / start.path
    try:
        return FileOrigin(format=start.kind, sha256=_sha256(path, start.kind, _state(path)))
    except CheckpointError as error:
        raise SpecError(
            f"weights to start from: {error}",
            where=place(study.regime_file(regime), "start.path"),
            field="start.path",
            found=str(start.path),
            expected=f"a {'file' if start.kind == 'safetensors' else 'folder'} in {study.project}",
        ) from None


def start_files(study: Study) -> dict[str, Path]:
    """Every file or folder that the study's regimes start from, by the SHA-256 of its content; errors as above."""
    starts = {name: regime.start for name, regime in study.sparse_regimes.items()}
    return {
        file_origin(study, name, start).sha256: study.project / start.path
        for name, start in starts.items()
        if isinstance(start, WeightsFile | HuggingFace)
    }


def _state(path: Path) -> tuple[tuple[int, int], ...]:
    """Changes whenever a file or the files of a folder do."""
    stats = [file.stat() for file in (path, *sorted(path.glob("*"))) if file.exists()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


@lru_cache
def _sha256(path: Path, kind: Literal["safetensors", "huggingface"], state: object) -> str:  # noqa: ARG001
    """Read once for each state of the file: a study is laid out many times."""
    return content_sha256(path, kind)
