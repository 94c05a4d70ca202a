"""Walk over the elements of a plain DICOM header and keep only the wanted ones.

A scan of a folder needs some twenty tags per file; pydicom makes objects of all hundred of them. Headers that are not
plain (deflated, big-endian, enhanced, deeply nested, damaged, anything unexpected) are left to the full parser. Both
ways give the same values: a test compares them on every file that pydicom ships, and on damaged ones.

The plainest values are converted straight from their bytes, ten times as fast as pydicom. Other values (empty,
damaged, of an unexpected value representation, set by a program) are left to pydicom, and compared in the same way.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, BinaryIO

from pydicom import Dataset
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

__all__ = ["LeanHeader", "plain_code", "plain_numbers", "plain_uid", "read_lean_header", "tag_of", "too_long"]

# no part can match in two ways: a long value that is not plain must not take quadratic time
_NUMBER = rb" *[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})? *"
_DECIMALS = re.compile(rb"%s(?:\\%s)*" % (_NUMBER, _NUMBER))
_WHOLE = re.compile(rb" *[+-]?\d+ *")
_CODE = re.compile(rb"[A-Z0-9_]+(?: [A-Z0-9_]+)* ?")
_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)*\0?")
_LONGEST_FIELD = 2**16  # capacity of the length field of most value representations
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}


@lru_cache(maxsize=1024)
def tag_of(keyword: str) -> BaseTag:
    """Return the tag of a keyword of the dictionary."""
    return Tag(keyword)


def plain_numbers(dataset: Dataset, tag: BaseTag) -> list[float] | None:
    """Return one or more numbers; None if the value is not plain.

    Example:
        >>> dataset = Dataset()
        >>> dataset[0x00281050] = RawDataElement(Tag("WindowCenter"), "DS", 6, b"40\\\\1.5", 0, False, True)
        >>> plain_numbers(dataset, tag_of("WindowCenter"))
        [40.0, 1.5]
    """
    vr, value, is_little_endian = _raw(dataset, tag)
    if vr == "DS" and _DECIMALS.fullmatch(value):
        return [float(part) for part in value.split(b"\\")]
    if vr == "IS" and _WHOLE.fullmatch(value):
        return [float(value)]
    if (code := _BINARY.get(vr)) is not None:
        count, rest = divmod(len(value), struct.calcsize(code))
        if count and not rest:
            return [
                float(number) for number in struct.unpack(f"{'<' if is_little_endian else '>'}{count}{code}", value)
            ]
    return None


def too_long(dataset: Dataset, tag: BaseTag) -> bool:
    """Return True if a value is longer than any plausible list of numbers; millions would fill the memory."""
    element = dataset.get_item(tag, keep_deferred=True)
    return isinstance(element, RawDataElement) and element.length != 0xFFFFFFFF and element.length > _LONGEST_FIELD


def plain_code(dataset: Dataset, tag: BaseTag) -> str | None:
    """Return a single upper-case code string; None if the value is not plain."""
    vr, value, _ = _raw(dataset, tag)
    return value.decode("ascii").rstrip(" ") if vr == "CS" and _CODE.fullmatch(value) else None


def plain_uid(dataset: Dataset, tag: BaseTag) -> UID | None:
    """Return a single UID; None if the value is not plain."""
    vr, value, _ = _raw(dataset, tag)
    if vr == "UI" and _UID.fullmatch(value):
        return UID(value.rstrip(b"\0").decode("ascii"), IGNORE)
    return None


def _raw(dataset: Dataset, tag: BaseTag) -> tuple[str, bytes, bool]:
    """Return value representation, bytes and byte order of an unconverted value; "" if it is already converted."""
    element = dataset.get_item(tag, keep_deferred=True)
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return "", b"", True
    vr = element.VR
    if vr is None:
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            return "", b"", True
    return vr, element.value, element.is_little_endian


_FIRST_BYTES = 2**14  # nearly all headers end before; one small read is the cheapest
_MOST_BYTES = 2**22
_DEEPEST = 16
_UNDEFINED_LENGTH = 0xFFFFFFFF
_TRANSFER_SYNTAX = tag_of("TransferSyntaxUID")
_META = {int(tag): tag for tag in (_TRANSFER_SYNTAX, tag_of("MediaStorageSOPClassUID"))}
_IMPLICIT = ImplicitVRLittleEndian.encode()
_NOT_PLAIN = frozenset((DeflatedExplicitVRLittleEndian.encode(), ExplicitVRBigEndian.encode()))
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
_FUNCTIONAL_GROUPS = frozenset((0x52009229, 0x52009230))
# PS3.5 section 7.1.2: these have a length of 32 bits, the others one of 16
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())

_REPRESENTATIONS = {vr: vr.decode() for vr in _LONG | _SHORT}

_short_header = struct.Struct("<HH2sH").unpack_from
_implicit_header = struct.Struct("<HHL").unpack_from
_length = struct.Struct("<L").unpack_from


class LeanHeader(dict[int, RawDataElement]):
    """A few elements of a header, for the functions that read values of a pydicom data set.

    A pydicom data set takes longer to construct than its elements take to find.

    Attributes:
        file_meta: TransferSyntaxUID and MediaStorageSOPClassUID.
    """

    file_meta: LeanHeader

    def __contains__(self, tag: Any) -> bool:
        """Return True for an element in the header, by tag or keyword."""
        return dict.__contains__(self, Tag(tag) if isinstance(tag, str) else tag)

    def __getitem__(self, tag: Any) -> DataElement:  # type: ignore[override]
        """Return the converted element."""
        number = Tag(tag)
        return Dataset({number: dict.__getitem__(self, number)})[number]

    def get_item(self, tag: int, *, keep_deferred: bool = False) -> RawDataElement | None:
        """Return the unconverted element; None if it is missing."""
        return dict.get(self, tag)


class _Unusual(Exception):
    """A header that is left to the full parser."""


def read_lean_header(file: BinaryIO, wanted: Mapping[int, BaseTag]) -> tuple[LeanHeader, bool, int] | None:
    """Read the wanted top-level elements of a header, from the beginning of a file.

    Args:
        file: a DICOM file with preamble.
        wanted: tags to keep, by their numbers.

    Returns:
        The unconverted elements, True if pixel data follows, and the number of bytes before it. None if the header is
        not plain.

    Reference:
        DICOM PS3.5 sections 7.1 and 7.5; PS3.10 section 7.1.
    """
    try:
        return _Walk(file, wanted).header()
    except (_Unusual, struct.error):
        return None


class _Walk:
    """Bytes of a file read so far, and the elements found in them."""

    def __init__(self, file: BinaryIO, wanted: Mapping[int, BaseTag]) -> None:
        file.seek(0)
        self.file = file
        self.buffer = file.read(_FIRST_BYTES)
        self.wanted = wanted

    def header(self) -> tuple[LeanHeader, bool, int]:
        if self.buffer[128:132] != b"DICM":
            raise _Unusual
        meta, start = self._meta()
        syntax = meta.get_item(_TRANSFER_SYNTAX)
        uid = b"" if syntax is None else (syntax.value or b"").rstrip(b"\0 ")
        implicit = uid == _IMPLICIT
        # an unexpected or a missing VR: the encoding is not the stated one
        if not uid or uid in _NOT_PLAIN or (self.buffer[start + 4 : start + 6] in _REPRESENTATIONS) == implicit:
            raise _Unusual
        header, has_pixels, end = self._elements(start, implicit)
        header.file_meta = meta
        return header, has_pixels, end

    def _meta(self) -> tuple[LeanHeader, int]:
        """Return the elements of group 2 and its end."""
        found, position = LeanHeader(), 132
        while True:
            group, element, vr, length = _short_header(self.buffer, position)
            if group != 2:
                return found, position
            value = position + 8
            if vr in _LONG:
                (length,) = _length(self.buffer, value)
                value += 4
            elif vr not in _SHORT:
                raise _Unusual
            position = value + length
            if position > len(self.buffer):
                raise _Unusual
            if (tag := _META.get(group << 16 | element)) is not None:
                raw = self.buffer[value:position]
                found[tag] = RawDataElement(tag, _REPRESENTATIONS[vr], length, raw, value, False, True)

    def _elements(self, position: int, implicit: bool) -> tuple[LeanHeader, bool, int]:
        """Return the wanted elements from a position on, True if pixel data follows them, and their end."""
        found = LeanHeader()
        buffer, wanted, last = self.buffer, self.wanted, 0
        while True:
            if position + 12 > len(buffer):
                buffer = self._more(position + 12)
                if position == len(buffer):
                    return found, False, position
            if implicit:
                group, element, length = _implicit_header(buffer, position)
                vr, value = b"", position + 8
            else:
                group, element, vr, length = _short_header(buffer, position)
                value = position + 8
                if vr in _LONG:
                    (length,) = _length(buffer, value)
                    value += 4
                elif vr not in _SHORT:
                    raise _Unusual
            number = group << 16 | element
            if number in _PIXELS:
                return found, True, position
            if number <= last or number in _FUNCTIONAL_GROUPS:
                raise _Unusual
            last = number
            if length == _UNDEFINED_LENGTH:
                if number in wanted or vr == b"UN":  # UN holds the implicit encoding
                    raise _Unusual
                position = self._end_of_sequence(value, implicit)
                buffer = self.buffer
                continue
            position = value + length
            if position > len(buffer):
                buffer = self._more(position)
                if position > len(buffer):
                    raise _Unusual
            if number in wanted:
                tag, raw = wanted[number], buffer[value:position]
                found[tag] = RawDataElement(tag, _REPRESENTATIONS.get(vr), length, raw, value, implicit, True)

    def _more(self, needed: int) -> bytes:
        """Read up to a position, or to the end of the file."""
        if needed > _MOST_BYTES:
            raise _Unusual
        while len(self.buffer) < needed:
            more = self.file.read(max(needed - len(self.buffer), 4 * len(self.buffer)))
            if not more:
                break
            self.buffer += more
        return self.buffer

    def _end_of_sequence(self, position: int, implicit: bool) -> int:
        """Return the end of a sequence of undefined length, by walking over its items."""
        inside = ["sequence"]
        while inside:
            if position + 12 > len(self.buffer):
                self._more(position + 12)
            group, element, length = _implicit_header(self.buffer, position)
            tag = group << 16 | element
            position += 8
            if inside[-1] == "sequence":
                if tag == _SEQUENCE_END:
                    inside.pop()
                elif tag != _ITEM:
                    raise _Unusual
                elif length == _UNDEFINED_LENGTH:
                    inside.append("item")
                else:
                    position += length
            elif tag == _ITEM_END:
                inside.pop()
            elif group == 0xFFFE:
                raise _Unusual
            else:
                position, length = self._value(position, length, implicit)
                if length == _UNDEFINED_LENGTH:
                    inside.append("sequence")
                else:
                    position += length
            if len(inside) > _DEEPEST:
                raise _Unusual
        return position

    def _value(self, position: int, length: int, implicit: bool) -> tuple[int, int]:
        """Return start and length of an element's value; the first eight bytes of the element end at ``position``."""
        if implicit:
            return position, length
        vr = self.buffer[position - 4 : position - 2]
        if vr in _SHORT:
            return position, length >> 16
        if vr not in _LONG:
            raise _Unusual
        (length,) = _length(self.buffer, position)
        if length == _UNDEFINED_LENGTH and vr == b"UN":
            raise _Unusual
        return position + 4, length
