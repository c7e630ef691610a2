"""A recipe in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apercu.cli.output import brief

if TYPE_CHECKING:
    from apercu.store import Recipe

LONGEST = 60


def recipe_in_words(recipe: Recipe) -> str:
    """What a model is, what it learnt from, and how well it does; a line for each."""
    image, about, training = recipe.image, recipe.data, recipe.training
    size = f"{image.height}×{image.width}" if image.uniform else f"any size up to {image.height}×{image.width}"
    lines = [
        (
            "preset",
            f"{recipe.preset}({', '.join(f'{name}={_short(value)}' for name, value in recipe.settings.items())})",
        ),
        ("images", f"{size}, {image.channels} channel{'s' * (image.channels > 1)}, white is {image.maximum:g}"),
        ("classes", f"{len(recipe.classes)}: {brief(recipe.classes)}" if recipe.classes else "none"),
    ]
    if about:
        counts = f"{about['train']} images, {about['labelled']} labelled; {about['val']} to validate"
        lines.append(("learnt from", f"{about['origin']}: {counts}"))
    if training:
        epochs = training["epochs"] or "the usual number of"
        length = f"{training['minutes']:g} minutes" if training["minutes"] else f"{epochs} epochs"
        lines.append(("training", f"at most {length}, batches of {training['batch']}, seed {recipe.seed}"))
    kept = recipe.metrics.get("validation")
    lines += [("validation", brief(kept))] if kept else []
    told = recipe.metrics.get("classify", {})
    lines += [("accuracy", f"{told['accuracy']:.1%} of {told['n']} validation images")] if told else []
    lines += [("warning", warning) for warning in recipe.metrics.get("warnings", [])]
    lines += [("tasks", f"fitted: {brief(list(recipe.tasks))}")] if recipe.tasks else []
    lines.append(("made with", brief(recipe.versions)))
    return "\n".join(f"{name + ':':<12} {text}" for name, text in lines)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
