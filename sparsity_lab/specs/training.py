"""Training settings: optimiser, learning rate, schedule, precision and evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sparsity_lab.specs.base import Count, Fraction, Positive, Spec

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Spec):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"]
    beta1: Beta = 0.9
    beta2: Beta = 0.98
    epsilon: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """decay per step, times the learning rate; on the 2-D weights only"""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """global gradient norm above which gradients are scaled down; 0 switches it off"""


class AdaFactor(Spec):
    """AdaFactor with an unfactored second moment, as the paper trains: statistics over non-zero weights only."""

    kind: Literal["adafactor"]
    decay_exponent: Positive = 0.8
    """beta2 at step t is 1 - t^-decay_exponent (Shazeer & Stern 2018, section 7.2)"""
    clip_rms: Positive = 1.0
    """updates whose RMS over the non-zero weights exceeds this are scaled down"""
    minimum_scale: Positive = 1e-3
    """lower bound of the parameter RMS that scales the step"""
    epsilon: Positive = 1e-30


Optimizer = Annotated[AdamW | AdaFactor, Field(discriminator="kind")]


class LearningRate(Spec):
    """Peak learning rate = base * (width / base_width) ^ exponent."""

    base: Positive
    """peak learning rate at base_width"""
    base_width: Count = 64
    exponent: float = 0.0
    """0 for AdaFactor (it scales steps by parameter size); about -0.5 to -1 for AdamW"""

    def at(self, width: int) -> float:
        """Peak learning rate for a model of this width, rounded to 6 significant digits."""
        return float(f"{self.base * (width / self.base_width) ** self.exponent:.6g}")


class CosineSchedule(Spec):
    """Linear warm-up, then half a cosine down to `final` times the peak."""

    kind: Literal["cosine"]
    warmup: Fraction = 0.05
    """fraction of all steps"""
    final: Fraction = 0.0
    """last learning rate relative to the peak"""


class InverseSqrtSchedule(Spec):
    """Linear warm-up, then peak * sqrt(warmup_steps / step), with an optional linear cool-down (Raffel 2020)."""

    kind: Literal["inverse-sqrt"]
    warmup: Fraction = 0.05
    """fraction of all steps"""
    cooldown: Fraction = 0.0
    """fraction of all steps at the end over which the rate falls linearly to zero"""


RateSchedule = Annotated[CosineSchedule | InverseSqrtSchedule, Field(discriminator="kind")]


class Evaluation(Spec):
    """How often and on how much held-out data the loss is measured; the same examples for every run."""

    examples: Count = 512
    """held-out examples behind the final loss"""
    curve_examples: Count = 64
    """held-out examples behind each point of the curve (the first of the same set)"""
    every: Count = 100
    """optimiser steps between two points of the curve"""


Precision = Literal["float32", "bfloat16", "float32-compiled", "bfloat16-compiled"]
"""bfloat16 is autocast: weights, gradients and optimiser state stay float32; compiled blocks (`torch.compile`) sum in
another order, so they are runs of their own"""


class TrainingSpec(Spec):
    """Everything about training that a study fixes for all its runs."""

    batch: Count
    """examples in one optimiser step"""
    optimizer: Optimizer
    learning_rate: LearningRate
    schedule: RateSchedule
    precision: Precision = "float32"
    """bfloat16 is autocast: master weights and optimiser state stay float32; -compiled runs blocks by torch.compile"""
    evaluation: Evaluation = Evaluation()
