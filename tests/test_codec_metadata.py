"""Colour profiles and EXIF: kept on demand, put back, and refused where they are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from apercu.codec.metadata import Metadata, metadata_of, put_back
from apercu.data.decode import decode_file
from apercu.errors import FormatError
from apercu.sheet import save_image
from tests.commands import run
from tests.rated import waves


def with_metadata(path: Path, pixels: np.ndarray, colour: str) -> tuple[bytes, Image.Exif]:
    """A JPEG that was turned, with a profile and EXIF."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile if colour == "RGB" else profile[:16] + b"GRAY" + profile[20:]
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x9003] = "A maker", 6, "2026:11:20 10:00:00"
    Image.fromarray(pixels).convert(colour).save(path, icc_profile=profile, exif=exif.tobytes())
    return profile, exif


def test_metadata_are_kept_on_demand(rated: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    profile, _ = with_metadata(source / "a.jpg", waves(1)[0, 0], "L")
    Image.fromarray(waves(1)[0, 0]).save(source / "b.png")
    for option, expected in (((), False), (("--metadata",), True)):
        small, large = tmp_path / f"small {expected}", tmp_path / f"large {expected}"
        assert run("compress", rated, source, "-o", small, "--quality", "1.5", *option, "--json").status == 0
        assert run("decompress", rated, small, "-o", large, "--tile", "16").status == 0
        with Image.open(large / "a.png") as image:
            found = image.getexif()
            assert (image.info.get("icc_profile") == profile) is expected
            assert (found.get(0x010F) == "A maker") is expected
            assert 0x0112 not in found  # the pixels stand upright
        with Image.open(large / "b.png") as image:
            assert "icc_profile" not in image.info
            assert not image.getexif()
    assert run("compress", rated, source, "-o", tmp_path / "small True", "--quality", "1.5", "--json").answer["written"]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_metadata_are_put_back_into_what_is_written(channels: int, tmp_path: Path) -> None:
    profile, _ = with_metadata(tmp_path / "a.jpg", waves(1)[0, 0], "L" if channels == 1 else "RGB")
    found = Metadata.from_bytes(metadata_of(tmp_path / "a.jpg", channels).to_bytes())
    assert found.profile == (profile if channels < 5 else b"")
    pixels = np.repeat(waves(1)[0], channels, 0)
    path = save_image(pixels, tmp_path / "b.png")
    put_back(path, found)
    read = decode_file(path)
    np.testing.assert_array_equal(read.pixels, pixels)
    with Image.open(path) if channels < 5 else tifffile.TiffFile(path) as file:
        if channels < 5:
            assert file.getexif()[0x010F] == "A maker"
        else:
            assert file.pages[0].tags[0x010F].value == "A maker"


def test_metadata_that_are_damaged_are_refused() -> None:
    whole = Metadata(b"profile", b"exif").to_bytes()
    assert Metadata.from_bytes(whole) == Metadata(b"profile", b"exif")
    for data in (b"", b"nonsense", whole[:5]):
        with pytest.raises(FormatError):
            Metadata.from_bytes(data)
