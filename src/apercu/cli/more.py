"""Commands that need no model: `check`, `presets` and `demo`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from apercu.cli.follow import counting
from apercu.cli.options import Channels, Fit, Images, Json, Size
from apercu.cli.output import in_words, note, show
from apercu.cli.signatures import preset_signatures


def check(images: Images, size: Size = None, fit: Fit = None, channels: Channels = None, as_json: Json = False) -> None:
    """Look for what would spoil training: unreadable files, duplicates, classes that are out of balance.

    Example: apercu check photos
    """
    from apercu.data.check import check
    from apercu.data.open import open_images

    with counting("opening") as progress:
        opened = open_images(images, size=size, fit=fit or "error", channels=channels, progress=progress)
    report = check(opened)
    show(report.to_json(), str(report), as_json)


def presets(as_json: Json = False) -> None:
    """List the presets with their settings, which apercu fit takes as -s name=value.

    Example: apercu presets
    """
    listed = preset_signatures()
    words = []
    for name, signature in listed.items():
        words.append(f"{name}: {signature.summary}")
        words += [f"  {setting}: {about}" for setting, about in signature.settings.items()]
    show({name: asdict(signature) for name, signature in listed.items()}, "\n".join(words), as_json)


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where its files go.")] = Path("demo-output"),
    as_json: Json = False,
) -> None:
    """Learn scanned digits from 100 labels, compare with other methods, and write a report.

    Example: apercu demo -o demo-output
    """
    from apercu.demo import demo

    answer = demo(out, note)
    show(answer, in_words(answer), as_json)
