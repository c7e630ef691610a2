"""A folder of image files, or one image file: class sub-folders or flat, with optional train, val and test above.

Masks of its images are kept apart from them, wherever they lie.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from apercu.data.decode import EXTENSIONS, decode_file
from apercu.data.images import Problem
from apercu.data.sources._masks import decode_numbers, named_numbers, part_masks
from apercu.data.sources.base import SPLITS, Found, Loader, Part, as_path, number_labels, unknown
from apercu.errors import ApercuError

UNLABELLED = {"unlabelled", "unlabeled"}


def accepts(images: object) -> bool:
    """Whether `images` names a folder, or a file with an image's extension."""
    path = as_path(images)
    return path is not None and (path.is_dir() or (path.suffix.lower() in EXTENSIONS and path.exists()))


def open(images: object) -> Found:
    """List the files; a class is the first folder below the split.

    Raises:
        ApercuError: there is no image in the folder.
    """
    root = Path(str(images)).expanduser()
    if not root.is_dir():
        return Found([Part([partial(decode_file, str(root))], [root.name], unknown(1))])
    files, others, problems = _walk(root)
    if not files:
        reason = f" ({problems[0]})" if problems else ""
        raise ApercuError(
            f"there is no image in {str(root)!r}{reason}: name a folder that holds PNG, JPEG or TIFF files"
        )
    notes = [f"left out, having no image's extension: {others} files"] if others else []
    everything = len(files)
    files, masks = part_masks(files)
    if len(files) < everything:
        notes.append(
            f"{everything - len(files)} files are masks, of {len(masks)} of the images, and no images themselves"
        )
    splits, folders = _read_layout([PurePosixPath(f).parts[:-1] for f in files])
    names = ["" if f.lower() in UNLABELLED else f for f in folders]
    labels, classes = number_labels(np.array(names, dtype=object))
    if len(classes) < 2:
        labels, classes = unknown(len(files)), ()
    notes += _notice_masks(files)
    by_split = defaultdict(list)
    for i, split in enumerate(splits):
        by_split[split].append(i)
    parts = [
        Part([partial(decode_file, str(root / files[i])) for i in rows], [files[i] for i in rows], labels[rows], split)
        for split, rows in by_split.items()
    ]
    marked = named_numbers(root, masks)
    decode_mask = decode_numbers if marked else decode_file
    drawn: dict[str, Loader] = {name: partial(decode_mask, str(root / mask)) for name, mask in masks.items()}
    return Found(parts, classes, notes, problems, masks=drawn, marked=marked)


def _walk(root: Path) -> tuple[list[str], int, list[Problem]]:
    files: list[str] = []
    others = 0
    problems: list[Problem] = []
    seen: set[str] = set()

    def report(error: OSError) -> None:
        name = Path(error.filename or root).relative_to(root).as_posix()
        problems.append(Problem(name, f"the folder cannot be read: {error.strerror}"))

    for here, folders, names in os.walk(root, followlinks=True, onerror=report):
        real = os.path.realpath(here)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        for name in names:
            is_image = os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")
            others += not is_image
            if is_image:
                files.append((Path(here) / name).relative_to(root).as_posix())
    return sorted(files), others, problems


def _read_layout(parents: list[tuple[str, ...]]) -> tuple[list[str], list[str]]:
    """The split and the class of each file, "" for none, from the folders it lies in."""
    parents = _drop_common(parents)
    splits = [SPLITS.get(p[0].lower(), "") if p else "" for p in parents]
    if all(splits) or {"train", "test"} <= set(splits) or {"train", "val"} <= set(splits):
        # What lies beside the splits, such as a folder of unlabelled images, is there to learn from.
        folders = [p[1] if split and len(p) > 1 else "" for p, split in zip(parents, splits, strict=True)]
        return [split or "train" for split in splits], folders
    return [""] * len(parents), [p[0] if p else "" for p in parents]


def _drop_common(parents: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without the folders that all files share, down to a split if there is one."""
    while all(parents) and len({p[0] for p in parents}) == 1 and parents[0][0].lower() not in SPLITS:
        parents = [p[1:] for p in parents]
    return parents


def _notice_masks(files: list[str]) -> list[str]:
    stems = Counter(os.path.splitext(f)[0] for f in files)
    twice = [stem for stem, count in stems.items() if count > 1]
    if not twice:
        return []
    return [
        f"{len(twice)} images share their name with another but for the extension ({twice[0]}, …): "
        "if those are masks, name the images in a CSV file"
    ]
