"""Write one small file per failure class of DICOM readers, with its truth."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from .truth import CT_WINDOW, Truth

__all__ = ["write_failure_files"]

_RAMP = np.arange(20 * 24).reshape(20, 24)
_ROUND = (np.hypot(*np.mgrid[-10:10, -8:16]) * 150).astype(np.uint16)  # at most 2830
_DEFLATED_FRAMES = UID("1.2.840.10008.1.2.8.1")


def write_failure_files(folder: Path) -> dict[Path, Truth]:
    """Write the files; the classes of folders (F25 to F31) and of privacy (F32, F33) have no files.

    Args:
        folder: exists, empty.

    Returns:
        Path -> truth.
    """
    found = {}
    for number, (dataset, truth, options) in enumerate(_files()):
        path = folder / f"{number:02d}{options.pop('suffix', '.dcm')}"
        cut = options.pop("cut", 0)
        dataset.save_as(path, **({"enforce_file_format": True} | options))
        if cut:
            path.write_bytes(path.read_bytes()[:-cut])
        found[path] = truth
    return found


_File = tuple[Dataset, Truth, dict[str, Any]]


def _files() -> Iterator[_File]:
    yield from _polarity()
    yield from _frames()
    yield from _colour()
    yield from _tables_and_padding()
    yield from _encodings()
    yield from _tags()


def _polarity() -> Iterator[_File]:
    tags: dict[str, Any]
    for stored, shift in ((_ROUND, 0), (_ROUND.astype(np.int16) - 1500, -1500)):  # F01
        shown = 1 - _window(stored, 1000 + shift, 1500)
        tags = {"WindowCenter": 1000 + shift, "WindowWidth": 1500}
        yield _grey(stored, bits=12, photometric="MONOCHROME1", **tags), _truth([shown], [-1.0 * stored]), {}
    shown = 1 - _window(_ROUND * -2.0 + 100, -2000, 3000)
    tags = {"RescaleSlope": -2, "RescaleIntercept": 100, "WindowCenter": -2000, "WindowWidth": 3000}
    yield _grey(_ROUND, bits=12, photometric="MONOCHROME1", **tags), _truth([shown], [2.0 * _ROUND]), {}


def _frames() -> Iterator[_File]:
    frames = np.stack([np.roll(_ROUND, 3 * k, axis=1) // (k + 1) for k in range(4)])
    shown = [plane / 4095 for plane in frames]
    yield _grey(frames, bits=12), _truth(shown, list(frames)), {}  # F02
    dataset = _grey(frames, bits=12, sop_class=EnhancedCTImageStorage, Modality="CT")  # F03
    dataset.SharedFunctionalGroupsSequence = [Dataset()]
    dataset.PerFrameFunctionalGroupsSequence = [Dataset() for _ in frames]
    scales = [(k + 1.0, -1024.0 - k) for k in range(4)]
    for group, (slope, intercept) in zip(dataset.PerFrameFunctionalGroupsSequence, scales, strict=True):
        item = Dataset()
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = slope, intercept, "HU"
        group.PixelValueTransformationSequence = [item]
    values = [plane * slope + intercept for plane, (slope, intercept) in zip(frames, scales, strict=True)]
    yield dataset, _truth([_window(plane, CT_WINDOW[1], CT_WINDOW[0]) for plane in values], values), {}


def _colour() -> Iterator[_File]:
    tables = [((np.arange(256) * factor) % 256 << 8).astype("<u2") for factor in (1, 3, 7)]
    for indices in ((_RAMP % 256).astype(np.uint8), (_RAMP % 256).astype(np.uint16)):  # F04
        dataset = _grey(indices, bits=8 * indices.itemsize, photometric="PALETTE COLOR")
        for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            dataset[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
            setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
        rgb = np.stack([table[indices] >> 8 for table in tables], axis=-1).astype(np.float64)
        yield dataset, _truth([rgb / 255], [rgb], facts=("photometric:PALETTE COLOR",)), {}
    for dtype, bits in ((np.uint16, 16), (np.uint16, 12), (np.uint32, 32)):  # F08, F09
        largest = 2.0**bits - 1
        samples = (np.stack([_RAMP, _RAMP[::-1], _RAMP[:, ::-1]], axis=-1) / _RAMP.max() * largest).astype(dtype)
        dataset = _grey(samples[..., 0], bits=bits, photometric="RGB", SamplesPerPixel=3, PlanarConfiguration=0)
        dataset.PixelData = samples.tobytes()
        yield dataset, _truth([samples / largest], [samples.astype(np.float64)]), {}


def _tables_and_padding() -> Iterator[_File]:
    entries = (np.arange(480) ** 2 // 8).astype("<u2")
    item = Dataset()  # F05
    item.LUTDescriptor, item.ModalityLUTType = [len(entries), 0, 16], "US"
    item["LUTDescriptor"].VR = "US"
    item.LUTData = entries.tobytes()
    item["LUTData"].VR = "OW"
    values = entries[_RAMP].astype(np.float64)
    dataset = _grey(_RAMP.astype(np.uint16), bits=16, ModalityLUTSequence=[item])
    yield dataset, _truth([values / 65535], [values], facts=("modality LUT",)), {}
    stored = _ROUND.astype(np.int16) - 1000  # F07
    padding = np.zeros(stored.shape, dtype=bool)
    padding[:, :4] = True
    stored[padding] = -2000
    tags: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -24, "PixelPaddingValue": -2000, "Modality": "CT"}
    dataset = _grey(stored, bits=16, sop_class=CTImageStorage, **tags)
    dataset["PixelPaddingValue"].VR = "SS"
    values = stored - 24.0
    yield dataset, _truth([_window(values, CT_WINDOW[1], CT_WINDOW[0])], [values], padding=[padding]), {}


def _encodings() -> Iterator[_File]:
    plain = _truth([_ROUND / 65535], [_ROUND])
    bare = Dataset()  # F11
    bare.update(_grey(_ROUND, bits=16))
    yield bare, plain, {"implicit_vr": True, "little_endian": True, "enforce_file_format": False}
    dataset = _grey(_ROUND, bits=16)  # F14
    dataset.file_meta.TransferSyntaxUID = _DEFLATED_FRAMES
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    dataset.PixelData = encapsulate([compressor.compress(_ROUND.astype("<u2").tobytes()) + compressor.flush()])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    options = {"implicit_vr": False, "little_endian": True, "force_encoding": True, "enforce_file_format": False}
    yield dataset, plain, options
    measured = _ROUND.astype("<f4") / 7 - 3  # F16
    dataset = _grey(_ROUND, bits=16, sop_class=ParametricMapStorage, BitsAllocated=32)
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, keyword)
    dataset.FloatPixelData = measured.tobytes()
    shown = (measured - measured.min()) / np.ptp(measured)
    yield dataset, _truth([shown], [measured.astype(np.float64)]), {}
    yield _grey(_ROUND, bits=16), Truth(kind="damaged"), {"cut": 300}  # F17
    deep = _ROUND.astype(np.uint32) * 1_000_000  # F18
    dataset = _grey(deep, bits=32)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = deep.astype(">u4").tobytes()
    yield dataset, _truth([deep / (2.0**32 - 1)], [deep.astype(np.float64)]), {}
    yield _grey(_ROUND, bits=16), plain, {"suffix": ".png"}  # F24


def _tags() -> Iterator[_File]:
    plain = _truth([_ROUND / 65535], [_ROUND])
    yield _grey(_ROUND, bits=16, RescaleSlope="", RescaleIntercept=0), plain, {}  # F19
    yield _grey(_ROUND, bits=16, RescaleSlope=0, RescaleIntercept=5), Truth(kind="damaged"), {}  # F20
    yield _grey(_ROUND, bits=16, PixelSpacing="", ImageOrientationPatient=""), plain, {}  # F21
    for keyword in ("PhotometricInterpretation", "SamplesPerPixel", "PixelRepresentation"):  # F22
        dataset = _grey(_ROUND, bits=16)
        delattr(dataset, keyword)
        yield dataset, plain, {}
    dataset = _grey(_ROUND, bits=16)  # F23
    del dataset.PixelData
    yield dataset, Truth(kind="no image"), {}


def _window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _truth(
    shown: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    *,
    padding: Sequence[np.ndarray | None] | None = None,
    facts: tuple[str, ...] = (),
) -> Truth:
    return Truth(
        kind="image",
        frames=tuple(range(len(shown))),
        frame_count=len(shown),
        shown=tuple(shown),
        values=tuple(np.asarray(plane, dtype=np.float64) for plane in values),
        padding=tuple(padding or [None] * len(shown)),
        value_tolerance=1e-3,
        facts=facts,
        source="written",
    )


def _grey(
    stored: np.ndarray,
    *,
    bits: int,
    sop_class: UID = SecondaryCaptureImageStorage,
    photometric: str = "MONOCHROME2",
    **tags: Any,
) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = "OT"
    if stored.ndim == 3:
        dataset.NumberOfFrames = len(stored)
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * stored.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW" if stored.itemsize > 1 else "OB"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset
