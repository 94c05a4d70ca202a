"""Splits of a training, in a file beside its checkpoint: the images and patients that a network learned from."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import os
import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from movl_monai.data.duplicates import find_looks
from movl_monai.data.entries import SPLITS
from movl_monai.data.spelling import patient_key
from movl_monai.errors import DataError

__all__ = ["LEARNED", "SPLITS_FILE", "KeptImage", "KeptSplits", "digest_files", "read_kept_splits", "splits_differ"]

SPLITS_FILE = "splits.csv"
LEARNED = ("train", "val", "calibration")
"""Splits that a network learns from: it is trained, selected and calibrated on them."""
_HEAD = re.compile(r"# movl-monai splits, format (\d+), scrypt n=(\d+) r=(\d+) p=(\d+), salt=([0-9a-f]{32,})")
_FORMAT = 1
_COST = (1024, 8, 1)  # n, r, p of scrypt: 2 ms and 1 MB for each guess
_DIGITS = 32
_AGAIN = "Restore the file from the machine of the training, or train again."


@dataclass(frozen=True, kw_only=True)
class KeptImage:
    """Row of the file; all values but the split are codes, "" if unknown.

    Args:
        image: code of the path below the data root.
        frame: frame of a multi-frame file, "" for other files.
        patient: code of the patient's id.
        file: code of the bytes of the file.
        pixels: code of the pixels at the network's input.
        look: code that survives re-encoding, see :mod:`movl_monai.data.duplicates`.
        split: train, val, calibration or test.
    """

    image: str
    frame: str = ""
    patient: str = ""
    file: str = ""
    pixels: str = ""
    look: str = ""
    split: str


class KeptSplits:
    """Splits that were made once.

    The file is pseudonymous: it holds no path, no id and no picture, but it is made from patient data and must be
    treated as such. Paths and patient ids can be guessed, so their codes are made by scrypt with the salt of the file.
    At 2 ms per guess it is slow, but not impossible, to find one among millions of patient numbers. Codes of files and
    pixels are HMAC-SHA256 with that salt: the owner of the file and an image can find out that the image was used. The
    code of the look describes roughly the bright and dark areas of an image; equal looks can be linked across files.

    Args:
        images: the rows.
        salt: 16 or more bytes; None draws them.
        cost: n, r and p of scrypt.

    Example:
        >>> kept = KeptSplits([], salt=b"0123456789abcdef")
        >>> kept.patient_code("P 007") == kept.patient_code("p 7")
        True
    """

    def __init__(
        self, images: Iterable[KeptImage], *, salt: bytes | None = None, cost: tuple[int, int, int] = _COST
    ) -> None:
        self.images = list(images)
        self.salt = salt or secrets.token_bytes(16)
        self.cost = cost
        self._slow: dict[str, str] = {}

    def slow_codes(self, kind: str, names: Iterable[str]) -> None:
        """Compute the codes of many paths or patients at once, so that later look-ups take no time."""
        wanted = [text for text in dict.fromkeys(f"{kind}\0{name}" for name in names) if text not in self._slow]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            self._slow |= dict(zip(wanted, pool.map(self._derive, wanted), strict=True))

    def image_code(self, key: str) -> str:
        """Return the code of a path below the data root."""
        return self._code("image", key)

    def patient_code(self, patient: str) -> str:
        """Return the code of a patient, for any spelling of the id."""
        return self._code("patient", patient_key(patient))

    def content_code(self, digest: str) -> str:
        """Return the code of a digest of bytes or pixels; "" for an empty digest."""
        return hmac.new(self.salt, digest.encode(), hashlib.sha256).hexdigest()[:_DIGITS] if digest else ""

    @cached_property
    def by_file(self) -> dict[str, list[int]]:
        """Positions of the rows of each file."""
        return self._positions("file")

    @cached_property
    def by_pixels(self) -> dict[str, list[int]]:
        """Positions of the rows with the same pixels."""
        return self._positions("pixels")

    @cached_property
    def by_image(self) -> dict[str, list[int]]:
        """Positions of the rows of each path."""
        return self._positions("image")

    @cached_property
    def learned_patients(self) -> set[str]:
        """Codes of the patients that the network learned from."""
        return {image.patient for image in self.images if image.patient and image.split in LEARNED}

    def write(self) -> bytes:
        """Return the content of the file."""
        n, r, p = self.cost
        stream = io.StringIO()
        stream.write(f"# movl-monai splits, format {_FORMAT}, scrypt n={n} r={r} p={p}, salt={self.salt.hex()}\n")
        columns = [column.name for column in fields(KeptImage)]
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([getattr(image, column) for column in columns] for image in self.images)
        return stream.getvalue().encode()

    @classmethod
    def parse(cls, content: bytes, *, name: str = SPLITS_FILE) -> KeptSplits:
        """Read the content of a file.

        Raises:
            DataError: if it is damaged, or of another format.
        """
        head, _, table = content.decode("utf-8", "replace").partition("\n")
        said = _HEAD.fullmatch(head.strip())
        if said is not None and int(said[1]) != _FORMAT:
            raise DataError(f"{name} has format {said[1]}, this movl_monai reads {_FORMAT}; update movl_monai.")
        try:
            rows = [KeptImage(**row) for row in csv.DictReader(io.StringIO(table))]
        except TypeError:
            rows = []
        if said is None or not rows or any(row.split not in (*SPLITS, "") for row in rows):
            raise DataError(f"{name} is damaged, so that the splits of the training are not known. {_AGAIN}")
        n, r, p = (int(said[place]) for place in (2, 3, 4))
        return cls(rows, salt=bytes.fromhex(said[5]), cost=(n, r, p))

    def _positions(self, column: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for index, image in enumerate(self.images):
            if code := getattr(image, column):
                found[code].append(index)
        return dict(found)

    def _code(self, kind: str, name: str) -> str:
        text = f"{kind}\0{name}"
        if text not in self._slow:
            self._slow[text] = self._derive(text)
        return self._slow[text]

    def _derive(self, text: str) -> str:
        n, r, p = self.cost
        message = text.encode("utf-8", "surrogateescape")
        return hashlib.scrypt(message, salt=self.salt, n=n, r=r, p=p, dklen=_DIGITS // 2).hex()


def read_kept_splits(path: str | os.PathLike[str]) -> KeptSplits | None:
    """Read the splits beside a checkpoint; return None if the training, by an earlier version, kept none.

    Raises:
        DataError: if `run.json` says that splits were kept and the file is missing, damaged or another one.
    """
    path = Path(path)
    try:
        record = json.loads(path.with_name("run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # reading the record itself gives a better message
        record = {}
    wanted = record.get("splits_sha256") if isinstance(record, Mapping) else None
    if not path.is_file():
        if wanted:
            raise DataError(f"{path.name} is missing beside run.json, which says that the training kept it. {_AGAIN}")
        return None
    content = path.read_bytes()
    if wanted and hashlib.sha256(content).hexdigest() != wanted:
        raise DataError(f"{path.name} is not the file that the training wrote: its checksum differs. {_AGAIN}")
    return KeptSplits.parse(content, name=path.name)


def digest_files(paths: Iterable[Path]) -> dict[Path, str]:
    """Compute a digest of the bytes of each file, or of all files of a folder; "" for an unreadable one."""
    distinct = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(distinct, pool.map(_digest, distinct), strict=True))


def _digest(path: Path) -> str:
    try:
        if path.is_dir():
            parts: Sequence[str] = sorted(_digest(part) for part in path.rglob("*") if part.is_file())
            return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
        digest = hashlib.blake2b(digest_size=16)
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    except OSError:
        return ""


def splits_differ(one: KeptSplits, other: KeptSplits) -> str:
    """Describe the differences in splits or patients between two trainings; "" if there are none.

    Codes of files and patients are salted per run. The look of an image is not salted, and may differ by a few bits
    between machines.
    """
    looks = [image.look for image in one.images]
    theirs = [image.look for image in other.images]
    same = [
        look if place is None else looks[place] for look, place in zip(theirs, find_looks(theirs, looks), strict=True)
    ]
    if _patients(one, looks) == _patients(other, same):
        return ""
    rows = [
        Counter((look, image.split) for image, look in zip(kept.images, found, strict=True))
        for kept, found in ((one, looks), (other, same))
    ]
    if rows[0] == rows[1]:
        return "the same images belong to other patients"
    sizes = [Counter(split or "none" for _, split in row.elements()) for row in rows]
    counts = [", ".join(f"{name} {size[name]}" for name in sorted(size)) for size in sizes]
    where = sorted({split or "none" for row in (rows[0] - rows[1], rows[1] - rows[0]) for _, split in row})
    return (
        f"{(rows[0] - rows[1]).total()} of {rows[0].total()} images of the first ({counts[0]}) are in another split of "
        f"the second ({counts[1]}) or not in it; {', '.join(where)} differ"
    )


def _patients(kept: KeptSplits, looks: Sequence[str]) -> Counter[tuple[tuple[str, str], ...]]:
    """Count the sets of looks and splits per patient; images of unknown patients stand alone."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for number, (image, look) in enumerate(zip(kept.images, looks, strict=True)):
        groups[image.patient or f"image {number}"].append((look, image.split))
    return Counter(tuple(sorted(group)) for group in groups.values())
