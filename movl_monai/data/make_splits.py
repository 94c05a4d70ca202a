"""Make the splits that a training keeps beside its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from movl_monai.data.datalist import Datalist
from movl_monai.data.dataset import ImageDataset
from movl_monai.data.decode import decode_all
from movl_monai.data.duplicates import looks_of, pixel_digests
from movl_monai.data.kept_splits import KeptImage, KeptSplits, digest_files
from movl_monai.data.spelling import patient_key

__all__ = ["make_kept_splits"]


def make_kept_splits(datalist: Datalist, images: ImageDataset, *, salt: bytes | None = None) -> KeptSplits:
    """Make a row for each in-distribution image of the whole list.

    A resumed training keeps the splits of the earlier one unchanged.

    Args:
        datalist: the list of the training, or a part of it.
        images: its decoded part; the other images are decoded with its transform, and not held in memory.
        salt: of the codes; None draws one.
    """
    if datalist.keeping is not None:
        return datalist.keeping.kept
    items = list(datalist.whole.select(domain=datalist.id_domain))
    kept = KeptSplits([], salt=salt)
    digests = digest_files(Path(item["image"]) for item in items)
    looks = _looks(items, images)
    keys = datalist.id_map.keys()
    named = [(keys[item["id"]][0], item["patient_id"]) for item in items]
    patients = ["" if patient is None or patient == f"file:{key}" else str(patient) for key, patient in named]
    kept.slow_codes("image", (key for key, _ in named))
    kept.slow_codes("patient", (patient_key(patient) for patient in patients if patient))
    for item, (key, _), patient in zip(items, named, patients, strict=True):
        pixels, look = looks.get(item["id"], ("", ""))
        kept.images.append(
            KeptImage(
                image=kept.image_code(key),
                frame=str(item.get("frame", "")),
                patient=kept.patient_code(patient) if patient else "",
                file=kept.content_code(digests[Path(item["image"])]),
                pixels=kept.content_code(pixels),
                look=look,
                split=item["split"] or "",
            )
        )
    return kept


def _looks(items: Sequence[Mapping[str, Any]], images: ImageDataset) -> dict[str, tuple[str, str]]:
    """Return the digest of the pixels, and the look, of each decodable image, by id."""
    pairs = zip(images.instances, zip(images.pixels, looks_of(images.images), strict=True), strict=True)
    found = {item["id"]: codes for item, codes in pairs}
    rest = [item for item in items if item["id"] not in found]
    for index, decoded in decode_all(rest, images.transform, num_workers=images.num_workers):
        if decoded.image is not None:
            image = torch.from_numpy(decoded.image)[None]
            found[rest[index]["id"]] = (pixel_digests(image)[0], looks_of(image)[0])
    return found
