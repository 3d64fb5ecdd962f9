"""Weights: export a run's, look at any file of them, and say what a run's are worth."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from sparsity_lab.cli.options import JsonOption, RootOption, print_answer, print_safe

PANEL = "Weights"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (export, inspect, evaluate):
        app.command(rich_help_panel=PANEL)(command)


def export(
    run: Annotated[str, typer.Argument(help="A run's fingerprint, or its first characters.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="dense, two-four, bitmask, csr, int8, int4, any n:m as 1:4 (one file), or huggingface (a folder).",
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="The file or folder to write.")],
    root: RootOption = Path(),
    *,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="Round weights to float32, bfloat16 or float16; as they are when left out."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write a run's final weights: compressed, or as a folder that transformers loads."""
    from sparsity_lab.console.weights import export_text
    from sparsity_lab.stages.weights import export_run

    print_safe(export_text(export_run(run, form, to, root, dtype=dtype, force=force)))


def inspect(
    file: Annotated[Path, typer.Argument(help="A safetensors file, compressed or not, or a Hugging Face folder.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show the true sparsity of every tensor of a file, and the patterns that hold."""
    from sparsity_lab.console.weights import weights_json, weights_text
    from sparsity_lab.stages.weights import inspect_weights

    found = inspect_weights(file)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print_answer(as_json, lambda: weights_json(found), lambda: weights_text(found, width))


def evaluate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE|FOLDER",
            help="A run's fingerprint or its first characters, a file of its weights, or a Hugging Face folder.",
        ),
    ],
    root: RootOption = Path(),
    text: Annotated[
        Path | None, typer.Option("--text", help="A text file, for models of next tokens.", show_default="none")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", help="A folder with a folder of pictures a class, for classifiers.", show_default="none"
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", help="Tasks of lm-eval, with commas between (extra lm-eval).", show_default="none"),
    ] = None,
    *,
    include_path: Annotated[
        Path | None,
        typer.Option("--include-path", help="A folder of task files of your own.", show_default="none"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Documents of each task.", show_default="all")
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option("--shots", min=0, help="Examples before a question.", show_default="as the task says"),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option("--length", min=2, help="Tokens of a window.", show_default="as in training or config.json"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what final weights are worth: perplexity of a text, accuracy on images, or tasks of lm-eval.

    Of a classifier alone: accuracy on its held-out images. A run's scores are kept beside its record.
    """
    from sparsity_lab.console.weights import evaluated_json, evaluated_text
    from sparsity_lab.errors import SpecError
    from sparsity_lab.stages.evaluate import EvaluationRequest, evaluate
    from sparsity_lab.training.tasks import TaskRequest

    names = tuple(name.strip() for name in (tasks or "").split(",") if name.strip())
    if tasks is not None and not names:
        raise SpecError("names no task", field="--tasks", found=tasks)
    if tasks is None and (include_path, limit, shots) != (None, None, None):
        raise SpecError("goes with --tasks", field="--include-path, --limit, --shots")
    if length is not None and text is None and tasks is None:
        raise SpecError("goes with --text or --tasks", field="--length", found=length)
    asked = None if tasks is None else TaskRequest(names, include_path, limit, shots)
    found = evaluate(source, EvaluationRequest(text, images, asked, length), root)
    print_answer(as_json, lambda: evaluated_json(found), lambda: evaluated_text(found))
