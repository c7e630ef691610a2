"""Views keep the class: each domain's promises, as mathematics, and the command that shows them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from apercu.augment import DOMAINS, Views, base, choose_domain, domain_for, tone, views_for, warp
from apercu.augment.base import OneOf, Op
from apercu.augment.tone import Colour, Focus, Gamma, Level, Noise, Posterize, Shade, Solarize, Stroke
from apercu.augment.warp import Cutout, Warp
from apercu.cli.augment import DomainName
from apercu.errors import ApercuError
from apercu.sheet import LINE
from apercu.types import Batch, ImageSpec

from .commands import run

PAGE = Path(__file__).resolve().parents[1] / "docs" / "augmentation.md"
SHAPES = [(1, 28, 28), (3, 32, 20), (5, 17, 13), (1, 8, 8), (3, 1, 9)]


def pictures(count: int, channels: int = 1, height: int = 28, width: int = 28, top: float = 1.0) -> Tensor:
    """The same smooth picture `count` times, without symmetry, from 0 to `top`."""
    generator = torch.Generator().manual_seed(channels * height * width)
    coarse = torch.rand(1, channels, 4, 4, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1) * top
    return fine.expand(count, -1, -1, -1).contiguous(memory_format=torch.channels_last)


def batch(x: Tensor) -> Batch:
    return Batch(x, torch.zeros(len(x), dtype=torch.int64), torch.arange(len(x)))


def both(views: Views, x: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return views.both(x)


def every_op() -> list[Op]:
    """All operations of all domains, those of `OneOf` by themselves."""
    found = [op for domain in DOMAINS.values() for op in (*domain.weak, *domain.strong)]
    return list(dict.fromkeys(part for op in found for part in (op.ops if isinstance(op, OneOf) else (op,))))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("domain", DOMAINS)
def test_views_are_images_of_the_same_kind(domain: str, shape: tuple[int, int, int]) -> None:
    x = pictures(7, *shape).requires_grad_()
    seen = Views(1.5, domain)(batch(x))
    assert seen.strong is not None
    for view in (seen.x, seen.strong):
        assert view.shape == x.shape
        assert view.dtype == torch.float32
        assert view.is_contiguous(memory_format=torch.channels_last)
        assert not view.requires_grad
        assert view.min() >= 0
        assert view.max() <= 1
        assert view.isfinite().all()


@pytest.mark.parametrize("domain", DOMAINS)
def test_views_depend_on_the_seed_alone_and_differ_between_images(domain: str) -> None:
    x, views = pictures(12, 3, 24, 24), Views(1.0, domain)
    weak, strong = both(views, x)
    again_weak, again_strong = both(views, x)
    assert torch.equal(weak, again_weak)
    assert torch.equal(strong, again_strong)
    assert len(strong.unique(dim=0)) == 12
    assert len(weak.unique(dim=0)) > 4
    assert not torch.equal(strong, both(views, x, seed=1)[1])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(strong, both(views, x)[1])


@pytest.mark.parametrize("domain", DOMAINS)
def test_strength_0_is_the_identity(domain: str) -> None:
    x = pictures(4, 3)
    assert all(torch.equal(view, x) for view in Views(0.0, domain).both(x))


@pytest.mark.parametrize("domain", ["digits", "medical"])
def test_strength_is_a_dial_and_strong_views_are_the_strong_ones(domain: str) -> None:
    x = pictures(64)
    change = [(both(Views(strength, domain), x)[1] - x).abs().mean() for strength in (0.3, 1.0, 2.0)]
    assert change[0] < change[1] < change[2]
    weak, strong = both(Views(1.0, domain), x)
    assert 2 * (weak - x).abs().mean() < (strong - x).abs().mean()


@pytest.mark.parametrize("op", every_op(), ids=str)
def test_every_operation_does_nothing_at_strength_0_and_something_at_1(op: Op) -> None:
    x = torch.rand(8, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    still = op.scaled(0.0)
    if isinstance(still, Warp):
        still = Warp(cells=still.cells)  # exchanges of sides are all or nothing; `Views` leaves them out at 0
    assert torch.allclose(still(x), x, atol=2e-4)
    assert not torch.allclose(op(x), x, atol=2e-2)


def jacobian(grid: Tensor) -> Tensor:
    """Of maps (B, H, W, 2) in pixels, by differences between neighbours: (B, H − 1, W − 1, 2, 2)."""
    height, width = grid.shape[1:3]
    pixels = grid * torch.tensor([width, height]) / 2
    across, down = pixels.diff(dim=2)[:, :-1], pixels.diff(dim=1)[:, :, :-1]
    return torch.stack([across, down], -1)


def warps(domain: str) -> list[Warp]:
    return [op for op in (*DOMAINS[domain].weak, *DOMAINS[domain].strong) if isinstance(op, Warp)]


@pytest.mark.parametrize("strength", [1.0, 4.0])
@pytest.mark.parametrize("domain", ["digits", "medical"])
def test_nothing_is_mirrored_where_sides_matter(domain: str, strength: float) -> None:
    torch.manual_seed(0)
    for op in warps(domain):
        assert torch.linalg.det(jacobian(op.scaled(strength).grid(pictures(200)))).min() > 0


@pytest.mark.parametrize("domain", ["objects", "texture", "aerial"])
def test_what_may_be_mirrored_is(domain: str) -> None:
    torch.manual_seed(0)
    for op in warps(domain):
        maps = jacobian(op.grid(pictures(100)))
        assert 30 < int((torch.linalg.det(maps).mean((1, 2)) < 0).sum()) < 70
        upright = maps[..., 1, 1].mean((1, 2)) > 0
        assert upright.all() if domain == "objects" else 30 < int(upright.sum()) < 70


@pytest.mark.parametrize(
    ("symmetry", "side", "count"), [("all", (9, 9), 8), ("all", (9, 12), 4), ("mirror", (9, 9), 2), ("none", (9, 9), 1)]
)
def test_symmetries_are_exact_and_all_appear(symmetry: str, side: tuple[int, int], count: int) -> None:
    torch.manual_seed(0)
    x = pictures(100, 2, *side)
    turns = [x[0].rot90(k, (1, 2)) for k in range(4)]
    known = {
        "all": [view for turn in turns for view in (turn, turn.flip(2)) if view.shape == x[0].shape],
        "mirror": [x[0], x[0].flip(2)],
        "none": [x[0]],
    }[symmetry]
    seen = Warp(symmetry=symmetry)(x)  # type: ignore[arg-type]
    which = torch.stack([(seen - view).abs().amax((1, 2, 3)) < 1e-4 for view in known], 1)
    assert len(known) == count
    assert (which.sum(1) == 1).all()
    assert which.any(0).all()


def test_a_shift_is_by_whole_pixels_and_repeats_the_edge() -> None:
    torch.manual_seed(0)
    x = pictures(200, 1, 10, 20)
    seen = Warp(shift=0.2)(x)
    found = set()
    for down in range(-2, 3):
        for across in range(-4, 5):
            rows, columns = (torch.arange(10) + down).clamp(0, 9), (torch.arange(20) + across).clamp(0, 19)
            same = (seen - x[:, :, rows][..., columns]).abs().amax((1, 2, 3)) < 1e-4
            found |= {(int(i), down, across) for i in same.nonzero()}
    assert {i for i, _, _ in found} == set(range(200))
    assert {down for _, down, _ in found} == set(range(-2, 3))
    assert {across for _, _, across in found} == set(range(-4, 5))


def test_a_turn_is_a_turn_in_images_that_are_not_square() -> None:
    torch.manual_seed(0)
    maps = jacobian(Warp(rotation=30.0).grid(pictures(50, 1, 20, 40)))
    assert torch.allclose(maps.mT @ maps, torch.eye(2).expand_as(maps), atol=1e-4)
    angles = torch.atan2(maps[:, 0, 0, 1, 0], maps[:, 0, 0, 0, 0]).rad2deg()
    assert angles.abs().max() <= 30.01
    assert angles.min() < -20
    assert angles.max() > 20


def test_elastic_maps_bend_smoothly_and_never_fold() -> None:
    torch.manual_seed(0)
    grid = Warp(elastic=5.0).grid(pictures(200, 1, 40, 40))  # as much as there is
    assert torch.linalg.det(jacobian(grid)).min() > 0
    straight = Warp().grid(pictures(1, 1, 40, 40))
    moved = (grid - straight).norm(dim=-1)
    assert moved.flatten(1).amax(1).min() > 0.02
    assert moved.max() < 0.5
    assert grid.diff(n=2, dim=1).abs().max() < 0.02


def test_splines_keep_constants_and_straight_lines() -> None:
    weights = base.splines(28, 4, torch.device("cpu"))
    assert torch.allclose(weights.sum(1), torch.ones(28))
    assert torch.allclose(weights @ torch.arange(-1.0, 6.0), (torch.arange(28) + 0.5) * 4 / 28, atol=1e-5)


def test_a_hole_is_a_square_of_at_most_the_size_claimed_filled_with_the_mean() -> None:
    torch.manual_seed(0)
    x = pictures(300, 3, 20, 30)
    seen = Cutout(0.5)(x)
    changed = (seen != x).any(1).numpy()
    mean = x.mean((2, 3), keepdim=True)
    sides = []
    for image, where in zip(seen, changed, strict=True):
        rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        if len(rows) == 0:
            continue
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert len(rows) == len(columns)
        assert where[box].all()
        assert torch.allclose(image[:, *box], mean[0])
        sides.append(len(rows))
    assert set(sides) == set(range(1, 11))
    rows, columns = changed.any(0).any(1), changed.any(0).any(0)
    assert rows.all(), "no place is spared"
    assert columns.all(), "no place is spared"


@pytest.mark.parametrize("domain", DOMAINS)
def test_grey_stays_grey(domain: str) -> None:
    x = pictures(40).expand(-1, 3, -1, -1)
    for view in both(Views(1.0, domain), x):
        assert torch.allclose(view, view[:, :1].expand_as(view), atol=1e-5)


@pytest.mark.parametrize("image", [ImageSpec(1, 28, 28), ImageSpec(3, 28, 28, 65535.0), ImageSpec(4, 28, 28)], ids=str)
@pytest.mark.parametrize("domain", DOMAINS)
def test_colours_are_mixed_and_values_folded_in_colour_pictures_alone(domain: str, image: ImageSpec) -> None:
    def names(image: ImageSpec) -> str:
        return str([str(op) for op in views_for(image, 1.0, domain).strong])

    assert not re.search("colour|posterize|solarize", names(image))
    assert re.search("colour", names(ImageSpec(3, 28, 28))) or domain in ("digits", "texture", "medical")


@pytest.mark.parametrize("domain", ["digits", "texture", "medical"])
def test_dim_scans_change_as_bright_ones_do(domain: str) -> None:
    views = views_for(ImageSpec(1, 28, 28, 65535.0), 1.0, domain)
    bright = pictures(40, top=0.2)  # far enough from white that nothing is cut off
    for one, other in zip(both(views, bright), both(views, bright / 50), strict=True):
        assert torch.allclose(one / 50, other, rtol=1e-3, atol=1e-5)


@dataclass(frozen=True)
class Plus(Op):
    amount: float

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.amount


def test_one_of_gives_each_image_one_operation_and_all_equally_often() -> None:
    torch.manual_seed(0)
    choice = OneOf((Plus(100.0), Plus(200.0), Plus(300.0)))
    x = torch.arange(10.0).view(10, 1, 1, 1)
    for _ in range(20):
        added = (choice(x) - x).flatten()
        counts = {amount: int((added == amount).sum()) for amount in (100, 200, 300)}
        assert sum(counts.values()) == 10, "each image keeps its place"
        assert min(counts.values()) >= 2
    single = [float(choice(x[:1])) for _ in range(300)]
    assert all(70 < single.count(amount) < 130 for amount in (100, 200, 300)), "even where there is one image"


def test_colour_turns_about_the_grey_axis() -> None:
    torch.manual_seed(0)
    x = 0.5 + 0.1 * (pictures(50, 3) - 0.5)  # far from the ends of the range
    chroma = x - x.mean(1, keepdim=True)
    for op in (Colour(hue=180.0), Colour(saturation=1.0)):
        seen = op(x)
        assert torch.allclose(seen.mean(1), x.mean(1), atol=1e-5)
        now = seen - seen.mean(1, keepdim=True)
        ratio = now.norm(dim=1) / chroma.norm(dim=1)
        cosine = (now * chroma).sum(1) / (now.norm(dim=1) * chroma.norm(dim=1))
        same = torch.ones_like(ratio)
        if op.hue:
            assert torch.allclose(ratio, same, atol=1e-3)
            assert torch.allclose(cosine, cosine[:, :1, :1].expand_as(cosine), atol=1e-2)
            assert cosine.min() < -0.9
        else:
            assert torch.allclose(cosine, same, atol=1e-3)
            assert 1 / math.e <= float(ratio.min()) < 0.5 < 2 < float(ratio.max()) <= math.e * 1.001


def test_strokes_get_wider_and_finer_within_grey_morphology() -> None:
    torch.manual_seed(0)
    x = pictures(40)
    image = x[0, 0].numpy()
    wide, fine = (
        ndimage.grey_dilation(image, (3, 3), mode="nearest"),
        ndimage.grey_erosion(image, (3, 3), mode="nearest"),
    )
    seen = Stroke(1.0)(x)[:, 0].numpy()
    assert (seen <= wide + 1e-5).all()
    assert (seen >= fine - 1e-5).all()
    grown = seen.mean((1, 2)) > image.mean()
    assert (seen[grown] >= image - 1e-5).all()
    assert (seen[~grown] <= image + 1e-5).all()
    assert 10 < grown.sum() < 30
    share = (seen[grown] - image)[:, wide > image + 0.05] / (wide - image)[wide > image + 0.05]
    assert np.allclose(share, share[:, :1], atol=1e-3), "each image by one share"


def test_tones_keep_what_they_say_they_keep() -> None:
    torch.manual_seed(0)
    x = 0.3 + 0.4 * pictures(50)
    flat = torch.full((4, 1, 28, 28), 0.5)
    assert all(
        torch.allclose(op(flat), flat, atol=1e-5) for op in (Level(0.5, 0.5), Gamma(0.5), Focus(1.0), Noise(0.5))
    )
    seen = Gamma(0.7)(x)
    assert torch.allclose(seen.amin((1, 2, 3)), x.amin((1, 2, 3)), atol=1e-5)
    assert torch.allclose(seen.amax((1, 2, 3)), x.amax((1, 2, 3)), atol=1e-5)
    assert torch.allclose(Level(contrast=0.3)(x).mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-5)
    step = Posterize(0.3)(x)
    assert (step - x).abs().max() <= 0.15 + 1e-5
    assert max(len(image.unique()) for image in step) > 8 > min(len(image.unique()) for image in step)
    folded = Solarize(0.6)(x)
    assert ((folded == x) | (folded == 1 - x)).all()
    assert (x[folded != x] > 0.4).all()
    grain = Noise(0.5)(x) - x
    assert 0.2 < (grain.std((1, 2, 3)) / x.std((1, 2, 3))).mean() < 0.3  # an even draw from 0 to 0.5
    light = (Shade(0.5)(x) / x).log()
    assert light.abs().max() <= 0.5
    assert light.diff(dim=3).abs().max() < 0.1


@pytest.mark.parametrize("op", [*every_op(), OneOf((Level(0.5), Gamma(0.5)))], ids=str)
def test_operations_draw_on_the_device_of_the_images(op: Op) -> None:
    x = torch.empty(5, 3, 16, 16, device="meta")  # any number from the processor would be refused here
    seen = op(x)
    assert seen.is_meta
    assert seen.shape == x.shape


@pytest.mark.parametrize(
    ("image", "domain"),
    [
        (ImageSpec(1, 28, 28), "digits"),
        (ImageSpec(1, 8, 8, 16.0), "digits"),
        (ImageSpec(3, 32, 32), "objects"),
        (ImageSpec(3, 32, 32, 1.0), "objects"),
        (ImageSpec(1, 28, 28, 65535.0), "medical"),
        (ImageSpec(3, 32, 32, 65535.0), "medical"),
        (ImageSpec(1, 224, 224), "medical"),
        (ImageSpec(6, 32, 32), "medical"),
    ],
    ids=str,
)
def test_the_domain_is_chosen_by_channels_depth_and_size(image: ImageSpec, domain: str) -> None:
    assert choose_domain(image)[0] == domain_for(image) == views_for(image).domain == domain
    assert views_for(image, 0.5, "texture") == Views(0.5, "texture", pictures=domain == "objects")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((1.0, "cats"), "choose one of: digits"), ((-1.0,), "at least 0"), ((math.nan,), "at least 0")],
)
def test_what_cannot_be_meant_is_said(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(ApercuError, match=words):
        Views(*arguments)  # type: ignore[arg-type]


def test_the_command_draws_a_sheet(tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    said = run("augment", "sklearn:digits", "-o", first, "--count", 5, "--json")
    assert said.status == 0, said.err
    assert said.answer["domain"] == "digits"
    assert "must not be mirrored" in said.answer["because"]
    assert len(said.answer["images"]) == 5
    side = 96 + 2  # an image of 8 pixels, magnified, and the gap; a line of words is below it
    with Image.open(first) as sheet:
        assert sheet.size == (10 * side + 2, 5 * (side + LINE) + 2)
    assert run("augment", "sklearn:digits", "-o", second, "--count", 5).status == 0
    assert first.read_bytes() == second.read_bytes()
    run("augment", "sklearn:digits", "-o", second, "--count", 5, "--seed", 1)
    assert first.read_bytes() != second.read_bytes()


def test_the_command_takes_images_of_any_size_and_depth(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("wide", (2, 900)), ("small", (9, 7)), ("large", (300, 200))):
        Image.fromarray(rng.integers(0, 60_000, size).astype(np.uint16)).save(tmp_path / f"{name}.png")
    said = run("augment", tmp_path, "-o", tmp_path / "sheet.png", "--strength", 1.5, "--json")
    assert said.answer["domain"] == "medical"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (10 * (192 + 2) + 2, 3 * (192 + 2 + LINE) + 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "sheet.jpg"], "name it sheet.png"),
        (["-o", "sheet.png", "--count", 0], "at least 1"),
        (["-o", "sheet.png", "--strength", -1], "at least 0"),
        (["-o", "sheet.png", "--domain", "cats"], "texture"),
    ],
)
def test_the_command_answers_mistakes_with_advice(options: list[object], words: str) -> None:
    said = run("augment", "sklearn:digits", *options)
    assert said.status == 2
    assert words in said.err


def test_the_command_knows_every_domain() -> None:
    assert get_args(DomainName) == ("auto", *DOMAINS)


def rows(heading: str) -> dict[str, list[str]]:
    """The table below a heading of the page: first cell → the others, without their marks."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    cells = ([cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table)
    return {first: others for first, *others in cells}


def test_the_page_says_what_each_domain_does() -> None:
    assert rows("Domains") == {
        name: [domain.about, *(" · ".join(map(str, ops)) for ops in (domain.weak, domain.strong))]
        for name, domain in DOMAINS.items()
    }


def test_the_page_says_what_each_operation_means() -> None:
    known = [
        op for file in (base, warp, tone) for op in vars(file).values() if isinstance(op, type) and issubclass(op, Op)
    ]
    expected = {f"{op.__name__.lower()} {field.name}" for op in known if op is not Op for field in fields(op)}
    assert set(rows("Operations")) == expected
