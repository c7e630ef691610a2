"""A folder of codes on disk: `codes.json`, what they are, and a LanceDB table with a row for each image.

Every change of the table is a transaction: it is there as a whole or not at all, whatever stops the program. Several
processes may append at the same time.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apercu.errors import ApercuError, FormatError

if TYPE_CHECKING:
    import pyarrow as pa

ABOUT, NAME, ROWS = "codes.json", "codes", "codes.lance"
FORMAT = 1
HASH, THUMB = 16, 256
OLD = timedelta(days=1)
AT_ONCE = 1000


@dataclass(frozen=True)
class About:
    """What all rows have in common.

    `fingerprint`: of the model that made them, and `model`: its folder; `origin`: the images, as they were named, and
    `opening`: the size, fit and channels that they were opened with; `classes`: the labels there are, in their order;
    `channels`: of every image; `kind` and `width`: the NumPy type of a code's numbers and how many a token has;
    `vector`: the length of a row's vector.
    """

    fingerprint: str
    model: str
    preset: str
    origin: str
    opening: dict[str, Any]
    channels: int
    kind: str
    width: int
    vector: int
    classes: list[str] = field(default_factory=list)
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False).encode()


def read_about(folder: Path) -> About:
    """What `codes.json` says.

    Raises:
        FormatError: no folder of codes, damaged, or from a newer version.
    """
    path = folder / ABOUT
    if not path.is_file():
        raise FormatError(f"{folder} holds no codes; make them with: apercu encode MODEL IMAGES -o {folder}")
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise FormatError(f"{folder} has format {content['format']} and this Apercu reads {FORMAT}; update Apercu")
        return About(**{entry.name: content[entry.name] for entry in fields(About)})
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is damaged ({error}); restore it from a copy, or encode again") from error


def holds_codes(images: object) -> bool:
    """Whether this names a folder that apercu encode made."""
    return isinstance(images, str | Path) and (Path(images).expanduser() / ABOUT).is_file()


def schema(length: int) -> pa.Schema:
    """The columns of a row; its vector has this length.

    `place`: where the image stood in its source; `split`: the official one, or ""; `modified` (ns) and `bytes`: of the
    file, null where an image has no file of its own; `depth`: bits a value; `white`: the value that means white;
    `thumb`: 16×16 grey levels; `price`: nats, without the label; `code`: null where the vector is the whole code.
    """
    import pyarrow as pa

    return pa.schema(
        {
            "id": pa.string(), "place": pa.int64(), "path": pa.string(), "label": pa.string(), "split": pa.string(),
            "modified": pa.int64(), "bytes": pa.int64(), "hash": pa.binary(HASH), "height": pa.int32(),
            "width": pa.int32(), "channels": pa.int32(), "depth": pa.int32(), "white": pa.float32(),
            "thumb": pa.binary(THUMB), "price": pa.float32(), "code": pa.binary(),
            "vector": pa.list_(pa.float32(), length),
        }
    )  # fmt: skip


class Table:
    """The rows, as Arrow tables."""

    def __init__(self, folder: Path, length: int | None = None) -> None:
        """Open the table; with the `length` of its vectors it is made if it is not there.

        Raises:
            ApercuError: the extra is not installed.
            FormatError: there is no table, or it is damaged.
        """
        library = _lancedb()
        try:
            if length is not None and not (folder / ROWS).is_dir():
                _make(library, folder, schema(length))
            self._rows = library.connect(folder).open_table(NAME)
        except (ValueError, RuntimeError, OSError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise FormatError(f"the table in {folder} cannot be read ({reason}); restore it, or encode again") from None

    def __len__(self) -> int:
        return int(self._rows.count_rows())

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        return self._rows.schema

    def read(self, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """These columns of every row, and `_rowid`, by which `take` finds it in this version of the table."""
        query = self._rows.search().select(list(columns)).with_row_id(True).limit(max(1, len(self)))
        return (query.where(where) if where else query).to_arrow()

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """These columns of the rows with these `_rowid`s, in their order."""
        found = self._rows.take_row_ids(list(rows)).select(list(columns)).with_row_id().to_arrow()
        place = {row: i for i, row in enumerate(found["_rowid"].to_pylist())}
        return found.take([place[row] for row in rows])

    def add(self, rows: pa.Table) -> None:
        """Append rows."""
        if len(rows):
            self._rows.add(rows)

    def replace(self, rows: pa.Table) -> None:
        """Change the rows of these ids to what is given of them: all columns, or some."""
        if len(rows):
            self._rows.merge_insert("id").when_matched_update_all().execute(rows)

    def drop(self, ids: Sequence[str]) -> None:
        """Delete the rows of these ids."""
        for start in range(0, len(ids), AT_ONCE):
            listed = ", ".join("'" + name.replace("'", "''") + "'" for name in ids[start : start + AT_ONCE])
            self._rows.delete(f"id IN ({listed})")

    def tidy(self) -> None:
        """Join small pieces, take new rows into the index, and forget versions that are older than a day."""
        self._rows.optimize(cleanup_older_than=OLD)

    @property
    def indexed(self) -> bool:
        """Whether there is an index of the vectors."""
        return bool(list(self._rows.list_indices()))

    def index(self, partitions: int) -> None:
        """Sort the vectors into so many parts by k-means, so that a search looks at a few of them."""
        from lancedb.index import IvfFlat

        config = IvfFlat(distance_type="l2", num_partitions=partitions)
        self._rows.create_index("vector", config=config, replace=True)

    def nearest(self, vectors: Sequence[Any], k: int, probes: int) -> pa.Table:
        """The k nearest rows to each vector by the index, one vector after the other: `id`, `_distance` (squared)."""
        found = self._rows.search(list(vectors)).select(["id", "_distance"]).limit(k).nprobes(probes).to_arrow()
        asked = [("query_index", "ascending")] if len(vectors) > 1 else []
        return found.sort_by([*asked, ("_distance", "ascending")])


def _make(library: Any, folder: Path, columns: pa.Schema) -> None:  # noqa: ANN401
    """An empty table, made apart and then put in its place, where another process may have been first."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as apart:
        library.connect(apart).create_table(NAME, schema=columns)
        with suppress(OSError):
            (Path(apart) / ROWS).rename(folder / ROWS)


def _lancedb() -> Any:  # noqa: ANN401
    """The library, told to keep its remarks to itself.

    Raises:
        ApercuError: it is not installed.
    """
    os.environ.setdefault("LANCE_LOG", "error")  # it is read once, when the library is loaded
    try:
        import lancedb
    except ImportError:
        raise ApercuError("keeping codes in a table needs an extra: pip install 'apercu[store]'") from None
    return lancedb
