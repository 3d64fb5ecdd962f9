"""Data sets of the `datasets` library: with it and without, saved, loaded and streamed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import datasets
import pyarrow as pa
import pytest
from datasets.packaged_modules.json.json import Json
from pydantic import ValidationError
from written_sources import files, refusal, saved

from sparsity_lab.data.sources import documents, source_hash
from sparsity_lab.errors import DataError, MachineError
from sparsity_lab.specs.datasets import TextDataset


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_saved_data_set_needs_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "saved" / "test").mkdir(parents=True)
    saved(tmp_path / "saved" / "test", [pa.table({"text": ["x", "y"]})])
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    source = {"kind": "huggingface", "path": str(tmp_path / "saved"), "split": "test"}
    spec = TextDataset.model_validate({"version": 1, "content": "text", "source": source})
    assert list(documents(spec.source)) == [b"x", b"y"]
    told = refusal("text", tmp_path / "saved", kind="huggingface")
    assert "split: has no such split (found 'train', expected test)" in told
    with pytest.raises(MachineError, match=r"needs the library datasets .expected pip install 'sparsity-lab\[hugg"):
        list(documents(spec.source.model_copy(update={"path": str(tmp_path)})))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_that_changes_is_read_again(tmp_path: Path, streaming: bool) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    source = {"kind": "huggingface", "path": str(folder), "streaming": streaming}
    spec = TextDataset.model_validate({"version": 1, "content": "text", "source": source})
    found, hashes = [], set()
    for text in ("x", "longer"):
        files(folder, [text])
        found += documents(spec.source)
        hashes.add(source_hash(spec.source))
    assert found == [b"x", b"longer"]
    assert len(hashes) == 2


def test_a_folder_is_looked_at_once_for_all_parts_of_its_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, spy = tmp_path / "texts", Mock(wraps=datasets.load_dataset)
    folder.mkdir()
    monkeypatch.setattr(datasets, "load_dataset", spy)
    source = {"kind": "huggingface", "path": str(folder), "streaming": True}
    spec = TextDataset.model_validate({"version": 1, "content": "text", "source": source})
    for texts in (["x", "y", "z"], ["x", "y", "z", "w"]):
        files(folder, texts)
        spy.reset_mock()
        assert [list(documents(spec.source)) for _ in range(2)] == [[text.encode() for text in texts]] * 2
        spy.assert_called_once()


def test_what_the_library_cannot_load_is_told(tmp_path: Path) -> None:
    assert "nowhere: source: no such file" in refusal("text", tmp_path / "nowhere", kind="huggingface")
    folder = tmp_path / "texts"
    folder.mkdir()
    files(folder, ["x"])
    told = refusal("text", folder, kind="huggingface", text_column="body")
    assert "body: no such column (found 'text', expected body)" in told
    assert "part-00000-of-00001: row 0: body: no such column" in refusal(
        "text", folder, kind="huggingface", text_column="body", streaming=True
    )


def test_a_stream_of_the_hub_is_known_by_its_commit() -> None:
    told = {"kind": "huggingface", "path": "allenai/c4", "config": "en", "streaming": True}
    hashes = set()
    for revision in ("0" * 40, "1" * 40, "main", None):
        spec = TextDataset.model_validate({"version": 1, "content": "text", "source": {**told, "revision": revision}})
        if revision and len(revision) == 40:
            hashes.add(source_hash(spec.source))
        else:
            with pytest.raises(DataError, match=r"revision: must be named for a stream .*a commit of 40 digits"):
                source_hash(spec.source)
    assert len(hashes) == 2
    with pytest.raises(ValidationError, match="split"):
        TextDataset.model_validate({"version": 1, "content": "text", "source": {**told, "split": "train[:5%]"}})


CACHED = """
import sys
from sparsity_lab.data.sources import documents
from sparsity_lab.errors import DataError
from sparsity_lab.specs.datasets import TextDataset
for revision in (None, "a" * 40, "b" * 40):
    told = {"kind": "huggingface", "path": "someone/texts", "revision": revision}
    spec = TextDataset.model_validate({"version": 1, "content": "text", "source": told})
    try:
        print(b" ".join(documents(spec.source)).decode())
    except DataError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_name_of_the_hub_is_read_from_the_cache_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "x"}\n{"text": "y"}\n')
    cache = tmp_path / "library"
    rows = {"train": str(tmp_path / "rows.jsonl")}
    builder = Json(cache_dir=str(cache), dataset_name="texts", config_name="default", hash="a" * 40, data_files=rows)
    builder.download_and_prepare()
    made = Path(builder.cache_dir)  # texts/default-.../0.0.0/aa...: named as the library names what the hub gave
    (cache / "someone___texts/default").mkdir(parents=True)
    made.parent.rename(cache / "someone___texts/default" / made.parent.name)
    around = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(cache), "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", CACHED], env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, named, other = done.stdout.splitlines()
    assert first == named == "x y"
    assert f"source.revision: is not what the cache holds, and the hub was not reached (found '{'b' * 40}'" in other
