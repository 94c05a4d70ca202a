"""Ways to damage a file: some know the structure of DICOM, some only bytes."""

from __future__ import annotations

import struct
from functools import lru_cache
from random import Random

from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword

from tests.fuzz.samples import PLANTED, samples

__all__ = ["damaged_files"]

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_VRS = (*_LONG, b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL")
_VRS += (b"SS", b"ST", b"TM", b"UI", b"UL", b"US", b"ZZ", b"\0\0", b"us")
_LENGTHS = (0, 1, 2, 3, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF)
_NUMBERS = (0, 1, 2, 7, 8, 9, 12, 16, 17, 32, 64, 127, 128, 255, 256, 32767, 32768, 65534, 65535)
_TEXTS = (b"", b"0", b"-1", b"nan", b"inf", b"1e400", b"-1e-400", b"1\\2\\3", b"\\" * 9, b" ", b"\0", b"1.5", b"x" * 99)
_TEXTS += (
    PLANTED.encode(),
    b"MONOCHROME1",
    b"PALETTE COLOR",
    b"YBR_FULL_422",
    b"RGB",
    b"SIGMOID",
    b"INVERSE",
    b"HU",
    b"CT",
)
_KEYWORDS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "RescaleSlope", "RescaleIntercept"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelData"),
    *("PresentationLUTShape", "LUTDescriptor", "LUTData", "VOILUTSequence", "ModalityLUTSequence", "SOPClassUID"),
    *("RedPaletteColorLookupTableDescriptor", "SegmentedRedPaletteColorLookupTableData", "PixelSpacing", "Modality"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "ImageOrientationPatient"),
    *(
        "SpecificCharacterSet",
        "TransferSyntaxUID",
        "FileMetaInformationGroupLength",
        "ExtendedOffsetTable",
        "RescaleType",
    ),
)
_TAGS = tuple(struct.pack("<HH", *divmod(tag_for_keyword(keyword) or 0, 2**16)) for keyword in _KEYWORDS)
_TAILS = (
    "",
    ".1",
    ".1.99",
    ".2",
    ".4.50",
    ".4.51",
    ".4.57",
    ".4.70",
    ".4.80",
    ".4.81",
    ".4.90",
    ".4.91",
    ".4.201",
    ".5",
)
_SYNTAXES = (*(f"1.2.840.10008.1.2{tail}".encode() for tail in _TAILS), b"1.2.840.10008.1.2.8.1", b"1.2.3", b"")


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """Draw a sample that was damaged one to four times."""
    files = samples()
    name = draw(st.sampled_from(sorted(files)))
    content = files[name]
    for _ in range(draw(st.integers(1, 4))):
        rng = Random(draw(st.integers(0, 2**32 - 1)))
        is_dicom = content[128:132] == b"DICM"
        ways = (*_DICOM_WAYS, *_WAYS) if is_dicom else _WAYS
        content = ways[draw(st.integers(0, len(ways) - 1))](content, rng)
    return content


@lru_cache(maxsize=64)
def _elements(content: bytes) -> list[tuple[int, int, int]]:
    """Start, start of the value and end of the elements of an explicit little-endian file, as far as they go."""
    found, position = [], 132
    while position + 8 <= len(content):
        vr = content[position + 4 : position + 6]
        value = position + (12 if vr in _LONG else 8)
        length = struct.unpack("<I", content[value - 4 : value].ljust(4, b"\0"))[0] if vr in _LONG else (
            struct.unpack("<H", content[position + 6 : position + 8])[0]
        )  # fmt: skip
        if not vr.isalpha():
            break
        end = len(content) if length == 0xFFFFFFFF else min(value + length, len(content))
        found.append((position, value, end))
        position = end
    return found


def _element(content: bytes, rng: Random) -> tuple[int, int, int]:
    return rng.choice(_elements(content) or [(132, 140, len(content))])


def _other_tag(content: bytes, rng: Random) -> bytes:
    start, _, _ = _element(content, rng)
    return content[:start] + rng.choice(_TAGS) + content[start + 4 :]


def _other_vr(content: bytes, rng: Random) -> bytes:
    start, _, _ = _element(content, rng)
    return content[: start + 4] + rng.choice(_VRS) + content[start + 6 :]


def _other_length(content: bytes, rng: Random) -> bytes:
    start, value, _ = _element(content, rng)
    length = rng.choice(_LENGTHS)
    if value - start == 12:
        return content[: value - 4] + struct.pack("<I", length) + content[value:]
    return content[: value - 2] + struct.pack("<H", length % 2**16) + content[value:]


def _without(content: bytes, rng: Random) -> bytes:
    start, _, end = _element(content, rng)
    return content[:start] + content[end:]


def _twice(content: bytes, rng: Random) -> bytes:
    start, _, end = _element(content, rng)
    return content[:end] + content[start : min(end, start + 2**16)] + content[end:]


def _moved(content: bytes, rng: Random) -> bytes:
    start, _, end = _element(content, rng)
    rest = content[:start] + content[end:]
    place, _, _ = _element(rest, rng)
    return rest[:place] + content[start : min(end, start + 2**16)] + rest[place:]


def _other_value(content: bytes, rng: Random) -> bytes:
    """Another value for one of the elements that matter, with its length put right."""
    known = [part for part in _elements(content) if content[part[0] : part[0] + 4] in _TAGS and part[2] - part[1] < 999]
    if not known:
        return content
    start, value, end = rng.choice(known)
    vr = content[start + 4 : start + 6]
    new = struct.pack("<H", rng.choice(_NUMBERS)) * rng.choice((1, 1, 1, 2, 3)) if vr in (b"US", b"SS", b"OW") else (
        rng.choice(_TEXTS)
    )  # fmt: skip
    new += b" " * (len(new) % 2)
    head = content[start : start + 6]
    head += b"\0\0" + struct.pack("<I", len(new)) if value - start == 12 else struct.pack("<H", len(new))
    return content[:start] + head + new + content[end:]


def _other_syntax(content: bytes, rng: Random) -> bytes:
    for start, value, end in _elements(content):
        if content[start : start + 4] == b"\x02\0\x10\0":
            new = rng.choice(_SYNTAXES)
            new += b"\0" * (len(new) % 2)
            return content[: value - 2] + struct.pack("<H", len(new)) + new + content[end:]
    return content


def _other_frame_bytes(content: bytes, rng: Random) -> bytes:
    """Damage in the last fifth of the file, where pixel data and its items lie."""
    start = len(content) * 4 // 5
    return content[:start] + _other_bytes(content[start:], rng)


def _other_bytes(content: bytes, rng: Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if damaged:
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(damaged)


def _other_head_bytes(content: bytes, rng: Random) -> bytes:
    return _other_bytes(content[:400], rng) + content[400:]


def _other_number(content: bytes, rng: Random) -> bytes:
    """Another whole number of two or four bytes, somewhere in front."""
    order, size = rng.choice("<>"), rng.choice((2, 4))
    number = struct.pack(f"{order}{'H' if size == 2 else 'I'}", rng.choice((*_NUMBERS, *_LENGTHS)) % 2 ** (8 * size))
    place = rng.randrange(max(1, min(len(content), 600) - size))
    return content[:place] + number + content[place + size :]


def _cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _spliced(content: bytes, rng: Random) -> bytes:
    other = samples()[rng.choice(sorted(samples()))]
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other)) :]


def _inserted(content: bytes, rng: Random) -> bytes:
    place, size = rng.randrange(len(content) + 1), rng.choice((1, 2, 8, 999))
    return content[:place] + rng.randbytes(size) + content[place:]


_WAYS = (_other_bytes, _other_head_bytes, _other_number, _cut, _spliced, _inserted)
_DICOM_WAYS = (_other_tag, _other_vr, _other_length, _without, _twice, _moved, _other_value, _other_value, _other_value)
_DICOM_WAYS += (_other_syntax, _other_frame_bytes)
