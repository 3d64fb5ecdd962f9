"""One training step on one thread: our trainer against transformers and against a bare loop, in one interleaved run.

    python benchmarks/step.py [--widths 16 64] [--families t5 vit] [--repeats 9]

`ours` is the whole training loop (`training.loop.Loop`: schedule, flat AdamW, running loss), `bare` the least that a
loop over our model can be (forward, backward, torch's AdamW with foreach), `transformers` that bare loop over Hugging
Face's model of the same shapes. Rates are units of D (encoder input tokens, decoder tokens, images) per CPU second of
the one thread, so that neighbours on the machine count little; medians over repeats that take turns. `peak` is our
step's FLOPs per second relative to the best fp32 matrix product measured in the same process. Targets: 1.3 times
transformers at width <= 64, 1.05 times above, never below .97 of the bare loop.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from sparsity_lab.models.base import Batch
from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import other_count, prunable_count, step_flops
from sparsity_lab.specs.datasets import Classification, NextToken, Objective, SpanCorruption, span_corruption_lengths
from sparsity_lab.specs.models import DecoderDims, OwnDims, T5Dims, ViTDims
from sparsity_lab.specs.regimes.regime import Dense
from sparsity_lab.specs.runs import RunSpec, data_per_example
from sparsity_lab.specs.training import AdamW, CosineSchedule, Evaluation
from sparsity_lab.training.loop import Loop

Step = Callable[[], object]
Loss = Callable[[Batch], Tensor]

BATCH, LAYERS, VOCABULARY, CLASSES = 32, 2, 512, 200
OBJECTIVES: dict[str, Objective] = {
    "t5": SpanCorruption(kind="span-corruption"),
    "vit": Classification(kind="classification"),
    "decoder": NextToken(kind="next-token"),
}


def dims_of(family: str, width: int) -> OwnDims:
    """Two layers a stack, heads 16 wide up to width 64 and 32 wide above."""
    heads = max(width // (16 if width <= 64 else 32), 1)
    match family:
        case "t5":
            stacks = {"encoder_layers": LAYERS, "decoder_layers": LAYERS}
            return T5Dims(**stacks, width=width, heads=heads, ff=2 * width, vocabulary=VOCABULARY)
        case "vit":
            image = {"image": 24, "channels": 1, "patch": 4, "classes": CLASSES}
            return ViTDims(layers=LAYERS, width=width, heads=heads, ff=4 * width, **image)
        case _:
            text = {"vocabulary": VOCABULARY, "context": 128}
            return DecoderDims(layers=LAYERS, width=width, heads=heads, ff=2 * width, **text)


def batch_of(dims: OwnDims) -> dict[str, Tensor]:
    """Random tokens or pixels of the benchmark's shapes."""
    match dims:
        case T5Dims():
            objective = SpanCorruption(kind="span-corruption")
            lengths = objective.input_length, span_corruption_lengths(objective)[1]
            inputs, targets = (torch.randint(VOCABULARY, (BATCH, length)) for length in lengths)
            return {"inputs": inputs, "targets": targets}
        case ViTDims():
            images = torch.randint(256, (BATCH, dims.image, dims.image, dims.channels), dtype=torch.uint8)
            return {"images": images, "labels": torch.randint(CLASSES, (BATCH,))}
        case DecoderDims():
            return {"tokens": torch.randint(VOCABULARY, (BATCH, dims.context))}


def transformers_model(dims: OwnDims) -> tuple[nn.Module, Loss]:
    """Hugging Face's model of the same shapes and parameter count, and its loss of one of our batches."""
    match dims:
        case T5Dims():
            return _their_t5(dims)
        case ViTDims():
            return _their_vit(dims)
        case DecoderDims():
            return _their_decoder(dims)


def _their_t5(dims: T5Dims) -> tuple[nn.Module, Loss]:
    config = T5Config(
        vocab_size=dims.vocabulary,
        d_model=dims.width,
        d_kv=dims.width // dims.heads,
        d_ff=dims.ff,
        num_layers=dims.encoder_layers,
        num_decoder_layers=dims.decoder_layers,
        num_heads=dims.heads,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,  # type: ignore[call-arg]
        use_cache=False,
    )
    config.tie_word_embeddings = False
    model = T5ForConditionalGeneration(config)
    model.encoder.embed_tokens = model.decoder.embed_tokens = model.shared
    return model, lambda batch: model(input_ids=batch["inputs"], labels=batch["targets"]).loss


def _their_vit(dims: ViTDims) -> tuple[nn.Module, Loss]:
    config = ViTConfig(
        hidden_size=dims.width,
        num_hidden_layers=dims.layers,
        num_attention_heads=dims.heads,
        intermediate_size=dims.ff,
        image_size=dims.image,
        patch_size=dims.patch,
        num_channels=dims.channels,
        num_labels=dims.classes,  # type: ignore[call-arg]
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = ViTForImageClassification(config)

    def loss(batch: Batch) -> Tensor:
        pixels = batch["images"].permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        value: Tensor = model(pixel_values=pixels, labels=batch["labels"]).loss
        return value

    return model, loss


def _their_decoder(dims: DecoderDims) -> tuple[nn.Module, Loss]:
    config = LlamaConfig(
        vocab_size=dims.vocabulary,
        hidden_size=dims.width,
        intermediate_size=dims.ff,
        num_hidden_layers=dims.layers,
        num_attention_heads=dims.heads,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    return model, lambda batch: model(input_ids=batch["tokens"], labels=batch["tokens"]).loss


def bare_step(model: nn.Module, loss: Loss, batch: Batch) -> Step:
    """The least a training step can be: the bare loop that the full trainer is held against."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, foreach=True)

    def step() -> None:
        optimizer.zero_grad()
        loss(batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def trainer_step(dims: OwnDims, batch: Batch, objective: Objective) -> Step:
    """The full trainer's step on the same shapes and batch."""
    return Loop(run_of(dims, objective, BATCH), lambda _: dict(batch), torch.device("cpu")).advance


def run_of(dims: OwnDims, objective: Objective, batch: int) -> RunSpec:
    """A dense run of these shapes without end."""
    return RunSpec(
        model=dims,
        objective=objective,
        regime=Dense(version=1, method="dense"),
        sparsity=0.0,
        batch=batch,
        steps=1_000_000,
        optimizer=AdamW(kind="adamw", clip_norm=0.0),
        peak_learning_rate=1e-3,
        schedule=CosineSchedule(kind="cosine"),
        precision="float32",
        evaluation=Evaluation(),
        seed=0,
    )


def cpu_seconds(step: Step) -> float:
    """CPU time of this thread for one call."""
    start = time.thread_time()
    step()
    return time.thread_time() - start


def peak_flops() -> float:
    """FLOP/s of the best of a few fp32 matrix products."""
    matrix = torch.randn(1024, 1024)
    return 2 * 1024**3 / min(cpu_seconds(lambda: torch.mm(matrix, matrix)) for _ in range(8))


def compare(dims: OwnDims, objective: Objective, repeats: int) -> tuple[float, ...]:
    """Median CPU seconds of a step: the trainer's, the bare loop's, transformers'."""
    batch, ours = batch_of(dims), build_model(dims, 0)
    theirs, their_loss = transformers_model(dims)
    assert sum(p.numel() for p in theirs.parameters()) == prunable_count(dims) + other_count(dims)
    steps = (
        trainer_step(dims, batch, objective),
        bare_step(ours, ours.loss, batch),
        bare_step(theirs, their_loss, batch),
    )
    for step in steps:
        step()
        step()
    times = [[cpu_seconds(step) for step in steps] for _ in range(repeats)]
    return tuple(statistics.median(column) for column in zip(*times, strict=True))


def main() -> None:
    """Measure and print one line a shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--families", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    peak = peak_flops()
    print(f"one thread, batch {BATCH}, {LAYERS} layers a stack; fp32 matrix product peak {peak / 1e9:.0f} GFLOP/s")
    print("family   width   weights      ms    ours/s  against bare  against transformers  share of peak")
    for family in options.families:
        objective = OBJECTIVES[family]
        for width in options.widths:
            dims = dims_of(family, width)
            ours, bare, theirs = compare(dims, objective, options.repeats)
            rate = BATCH * data_per_example(objective) / ours
            share = step_flops(dims, objective, BATCH).total / ours / peak
            print(
                f"{family:8} {width:5} {prunable_count(dims):9,} {ours * 1e3:7.1f} {rate:9,.0f} "
                f"{bare / ours:13.2f} {theirs / ours:21.2f} {share:14.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
