"""An archive: read by name, appended to without rewriting, whole after any kill, and deaf to what was altered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from apercu.claims import claimed
from apercu.codec import archive as module
from apercu.codec.archive import MOST, PREFIX, SLOT, START, Archive
from apercu.codec.container import Coded, Head
from apercu.errors import ApercuError, FormatError

PRINT = b"8 bytes."
IMAGES = [(f"folder/{k:03d}", Coded(Head(8 + k % 3, 9, 1), (bytes(range(k, k + 5)),))) for k in range(6)]


def content(path: Path) -> dict[str, Coded]:
    archive = Archive(path, PRINT)
    return {name: archive.read(name) for name in archive.entries}


def make(path: Path, *parts: slice) -> bytes:
    for part in parts:
        Archive(path, PRINT).append(IMAGES[part])
    return path.read_bytes()


def test_images_are_read_by_name_and_added_without_touching_the_others(tmp_path: Path) -> None:
    path = tmp_path / "some.apca"
    assert Archive(path, PRINT).entries == {}
    first = make(path, slice(0, 2))
    archive = Archive(path, PRINT)
    archive.append(IMAGES[2:4])
    archive.append(IMAGES[4:])
    assert {name: archive.read(name) for name in archive.entries} == dict(IMAGES) == content(path)
    assert path.read_bytes()[START : len(first)] == first[START:]
    with pytest.raises(KeyError):
        archive.read("nothing")


def test_of_two_images_with_one_name_the_later_counts(tmp_path: Path) -> None:
    path = tmp_path / "some.apca"
    make(path, slice(0, 3))
    Archive(path, PRINT).append([(IMAGES[0][0], IMAGES[4][1])])
    assert content(path)[IMAGES[0][0]] == IMAGES[4][1]
    assert len(content(path)) == 3


def test_an_image_costs_few_bytes_beyond_its_own(tmp_path: Path) -> None:
    path = tmp_path / "some.apca"
    images = [(f"image-{k:05d}", Coded(Head(28, 28, 1), (bytes(16),))) for k in range(MOST)]
    Archive(path, PRINT).append(images)
    assert path.stat().st_size / MOST - 16 < 8
    with pytest.raises(ValueError, match="at most"):
        Archive(path, PRINT).append([*images, ("more", images[0][1])])


def test_a_killed_append_leaves_the_archive_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "some.apca"
    before = make(path, slice(0, 2))
    after = make(path, slice(2, 4))
    for length in range(len(before), len(after) + 1):
        path.write_bytes(before[:START] + after[START:length])
        assert content(path) == dict(IMAGES[:2])
    Archive(path, PRINT).append(IMAGES[4:])
    assert content(path) == dict(IMAGES[:2] + IMAGES[4:])


def test_appends_of_several_processes_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.apca"
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda pair: Archive(path, PRINT).append([pair]), IMAGES))
    assert content(path) == dict(IMAGES)
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    with claimed(tmp_path / ".some.apca.lock", path), pytest.raises(ApercuError, match="another run is writing to"):
        make(path, slice(0, 1))


@pytest.mark.parametrize("written", range(SLOT + 1))
def test_a_slot_that_was_half_written_is_not_believed(tmp_path: Path, written: int) -> None:
    path = tmp_path / "some.apca"
    before = make(path, slice(0, 2))
    after = make(path, slice(2, 4))
    start = next(k for k in (PREFIX, PREFIX + SLOT) if before[k : k + SLOT] != after[k : k + SLOT])
    path.write_bytes(after[: start + written] + before[start + written : START] + after[START:])
    assert content(path) in (dict(IMAGES[:2]), dict(IMAGES[:4]))
    Archive(path, PRINT).append(IMAGES[4:])
    assert dict(IMAGES[:2] + IMAGES[4:]).items() <= content(path).items()


@pytest.mark.parametrize("flush", [1, 2])
def test_an_append_that_fails_can_be_said_again(tmp_path: Path, flush: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.apca"
    make(path, slice(0, 2))
    left = flush

    def fail(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError("the disk is full")

    archive = Archive(path, PRINT)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_flush", fail)
        with pytest.raises(OSError, match="full"):
            archive.append(IMAGES[2:])
    archive.append(IMAGES[2:])
    assert content(path) == dict(IMAGES)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.apca"
    whole = make(path, slice(0, 2), slice(2, 4))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            Archive(path, PRINT)


def test_what_was_altered_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "some.apca"
    whole = make(path, slice(0, 2), slice(2, 6))
    truth, rng = dict(IMAGES), np.random.default_rng(0)
    lost = 0
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= int(rng.integers(1, 256))
        path.write_bytes(altered)
        try:
            archive = Archive(path, PRINT)
        except FormatError:
            continue
        assert set(archive.entries) == set(truth)
        for name in archive.entries:
            try:
                assert archive.read(name) == truth[name]
            except FormatError:
                lost += 1
    assert lost == sum(len(coded.payload()) for coded in truth.values())


def test_an_archive_of_another_model_kind_or_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.apca"
    whole = make(path, slice(0, 2))
    with pytest.raises(FormatError, match="another model"):
        Archive(path, b"8 others")
    path.write_bytes(b"APC" + whole[3:])
    with pytest.raises(FormatError, match="not an archive"):
        Archive(path, PRINT)
    path.write_bytes(whole[:3] + b"\x07" + whole[4:])
    with pytest.raises(FormatError, match="version 7"):
        Archive(path, PRINT)


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "a\\b", ""])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, images = tmp_path / "some.apca", [(name, IMAGES[0][1])]
    with pytest.raises(ValueError, match="name"):
        Archive(path, PRINT).append(images)
    with monkeypatch.context() as patch:
        patch.setattr(module, "is_safe", lambda _: True)
        Archive(path, PRINT).append(images)
    with pytest.raises(FormatError, match="index"):
        Archive(path, PRINT)
