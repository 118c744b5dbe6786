"""The optimizer of a stage, with its learning rate over the stage's steps."""

from __future__ import annotations

from typing import Any

import keras

from toolkit.training.recipe import Recipe, Stage, WarmupCosine


def build_optimizer(recipe: Recipe, stage: Stage, steps: int) -> keras.optimizers.Optimizer:
    """Make the optimizer that a stage begins with.

    Args:
        recipe: The run's settings.
        stage: One of its stages; every stage begins its schedule and its averages anew.
        steps: How many batches the stage takes, which is where `warmup_cosine` ends.

    Returns:
        An optimizer that knows schedule and averages itself, so that they are saved with the model.
    """
    kind = getattr(keras.optimizers, recipe.optimizer.name)
    rate = _learning_rate(recipe, stage, steps)
    accumulated = recipe.gradient_accumulation_steps
    if recipe.averages(stage):
        assert recipe.ema is not None
        # Keras averages after each batch, though the weights change only after some of them.
        momentum = recipe.ema.momentum ** (1 / (accumulated or 1))
        return kind(
            learning_rate=rate,
            use_ema=True,
            ema_momentum=momentum,
            gradient_accumulation_steps=accumulated,
        )
    return kind(learning_rate=rate, gradient_accumulation_steps=accumulated)


def _learning_rate(recipe: Recipe, stage: Stage, steps: int) -> Any:
    rate = stage.learning_rate or recipe.optimizer.learning_rate
    if recipe.exponential_decay:
        decay = recipe.exponential_decay
        return keras.optimizers.schedules.ExponentialDecay(rate, decay.every_steps, decay.rate)
    if recipe.warmup_cosine:
        return _warmup_cosine(rate, recipe.warmup_cosine, steps)
    return rate


def _warmup_cosine(rate: float, schedule: WarmupCosine, steps: int) -> Any:
    warmup = min(round(schedule.warmup_fraction * steps), steps - 1)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(rate, steps, alpha=schedule.floor)
    return keras.optimizers.schedules.CosineDecay(
        rate / warmup,  # Not zero: the first step would learn nothing.
        steps - warmup,
        alpha=schedule.floor,
        warmup_target=rate,
        warmup_steps=warmup,
    )
