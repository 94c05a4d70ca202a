"""Decode one frame to stored values, with the decoders in a fixed order, and name the decoder used."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    MPEGTransferSyntaxes,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from movl_monai.readers.dicom.codes import transfer_syntax_name
from movl_monai.readers.dicom.encapsulated import (
    coded_layout,
    color_of_frame,
    encoded_frame,
    read_jpeg_header,
    within_stored_bits,
)
from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.header import ParsedFile, PixelElement, remaining_bytes
from movl_monai.readers.dicom.layout import PixelLayout
from movl_monai.readers.dicom.packed_frame import (
    decode_deflated,
    decode_packed_bits,
    decoder_options,
    is_plain,
    read_plain_frame,
)
from movl_monai.readers.errors import MedicalImageError

__all__ = ["DECODERS", "DecodedFrame", "decode_frame", "decode_with_itk"]

Decoded = tuple[np.ndarray, str]
"""Values (H, W) or (H, W, 3) and the photometric interpretation after decoding."""


@dataclass(frozen=True, kw_only=True)
class DecodedFrame:
    """Stored values of one frame.

    Args:
        values: (H, W) or (H, W, 3), in the dtype of the file.
        photometric: photometric interpretation after decoding.
        decoder: name of the decoder.
        layout: of the file, with the sign and depth of the compressed frame if they differ.
    """

    values: np.ndarray
    photometric: str
    decoder: str
    layout: PixelLayout


_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)

_END_MARKER = b"\xff\xd9"
_MOST_PADDING = 8

DeflatedImageFrameCompression = UID("1.2.840.10008.1.2.8.1")
"""Each frame deflated separately; newer than pydicom's list."""

DECODERS: dict[UID, tuple[str, ...]] = {
    JPEGBaseline8Bit: ("pillow",),
    JPEGExtended12Bit: ("pillow", "SimpleITK"),
    JPEGLossless: ("SimpleITK",),
    JPEGLosslessSV1: ("SimpleITK",),
    JPEGLSLossless: ("pyjpegls",),
    JPEGLSNearLossless: ("pyjpegls",),
    JPEG2000Lossless: ("pylibjpeg",),
    JPEG2000: ("pylibjpeg",),
    HTJ2KLossless: ("pylibjpeg",),
    HTJ2KLosslessRPCL: ("pylibjpeg",),
    HTJ2K: ("pylibjpeg",),
    RLELossless: ("pylibjpeg", "pydicom"),
    DeflatedImageFrameCompression: ("zlib",),
}
"""Transfer syntax -> decoders in the order of trial.

The order is fixed because decoders differ. Pillow gives other values than the rest for some JPEG 2000 and is not used
there. python-gdcm ends the whole program on some damaged JPEG frames and is not used at all: Pillow gives the same
values for 8 bits, and SimpleITK, slower, for the rest. ``pylibjpeg-libjpeg`` is under the GPL, so ``pylibjpeg`` is not
used for syntaxes that only this plugin reads.
"""


def decode_frame(file: ParsedFile, pixels: PixelElement, layout: PixelLayout, frame: int, flags: Flags) -> DecodedFrame:
    """Decode one frame to stored values.

    Args:
        file: the parsed file.
        pixels: position of its pixel data.
        layout: of the pixel data.
        frame: index of the frame, from 0.
        flags: receives anomalies of the data.

    Raises:
        MedicalImageError: for too little data, a transfer syntax without decoder, or a failure of all decoders.
    """
    syntax = layout.transfer_syntax
    if syntax in _NATIVE:
        values, photometric = _decode_native(file, pixels, layout, frame, flags)
        return DecodedFrame(values=values, photometric=photometric, decoder="native", layout=layout)
    if syntax in DECODERS:
        return _decode_compressed(file, pixels, layout, frame, flags)
    kind = "a video" if syntax in MPEGTransferSyntaxes else "compressed in a way that no decoder here reads"
    raise MedicalImageError(
        f"No decoder reads the transfer syntax {_syntax_name(syntax)}: the file is {kind}; convert it to another one.",
        reason="no_decoder",
    )


def _decode_native(file: ParsedFile, pixels: PixelElement, layout: PixelLayout, frame: int, flags: Flags) -> Decoded:
    photometric = _check_length(file, pixels, layout, flags)
    if is_plain(layout):
        values = read_plain_frame(file.data, pixels.offset, layout, frame)
        return _shifted_down(values, layout, flags), photometric
    options = decoder_options(layout, photometric, frames=layout.frames)
    # stored bits that end too high are decoded up to their end and shifted down
    options |= {"bits_stored": layout.high_bit + 1, "pixel_vr": pixels.vr, "view_only": True}
    file.data.seek(pixels.offset)
    try:
        values, properties = get_decoder(layout.transfer_syntax).as_array(file.data, index=frame, raw=True, **options)
    except Exception as error:
        raise _failed(layout, [f"native: {type(error).__name__}"]) from None
    return _shifted_down(values, layout, flags), str(properties["photometric_interpretation"])


def _shifted_down(values: np.ndarray, layout: PixelLayout, flags: Flags) -> np.ndarray:
    if (shift := layout.high_bit + 1 - layout.bits_stored) > 0:
        flags.add("unusual_high_bit")
        return values >> shift
    return values


def _check_length(file: ParsedFile, pixels: PixelElement, layout: PixelLayout, flags: Flags) -> str:
    """Refuse data shorter than the header states; return the photometric interpretation that fits its length."""
    file.data.seek(pixels.offset)
    present = remaining_bytes(file.data)
    stated = present if pixels.length is None else pixels.length
    if pixels.length is None:
        raise MedicalImageError(
            "An uncompressed transfer syntax needs pixel data of a stated length, this file has items; "
            "its transfer syntax is wrong, export the file again.",
            reason="bad_header",
        )
    full = -(-layout.rows * layout.columns * layout.samples * layout.frames * layout.bits_allocated // 8)
    subsampled = layout.photometric == "YBR_FULL_422"
    if subsampled and min(stated, present) >= full:
        flags.add("not_subsampled")
        return "YBR_FULL"
    expected = full // 3 * 2 if subsampled else full
    if min(stated, present) < expected:
        raise MedicalImageError(
            f"The header says {expected} bytes of pixel data, there are {min(stated, present)}; "
            "copy or export the file again.",
            reason="truncated",
        )
    if stated > expected + expected % 2:
        flags.add("excess_pixel_data")
    return layout.photometric


def _decode_compressed(
    file: ParsedFile, pixels: PixelElement, layout: PixelLayout, frame: int, flags: Flags
) -> DecodedFrame:
    encoded, codestream = encoded_frame(file, pixels, layout, frame, flags)
    coded = layout if codestream is None else coded_layout(codestream, layout, flags)
    values, photometric, decoder = _first_decoded(encoded, coded, flags)
    if codestream is None:
        return DecodedFrame(values=values, photometric=photometric, decoder=decoder, layout=layout)
    if decoder == "pillow" and layout.samples == 3:
        photometric = color_of_frame(codestream, layout, flags)
    values, layout = within_stored_bits(values, codestream, replace(layout, signed=coded.signed), file.header, flags)
    return DecodedFrame(values=values, photometric=photometric, decoder=decoder, layout=layout)


def _first_decoded(encoded: bytes, layout: PixelLayout, flags: Flags) -> tuple[np.ndarray, str, str]:
    """Return values, photometric interpretation and name of the first decoder that succeeds."""
    failures = []
    for name in DECODERS.get(layout.transfer_syntax, ()):
        for variant in _variants(encoded, layout):
            try:
                decode = _decoder(name, layout)
                if decode is None:
                    break
                decoded = *decode(variant, layout), name
            except (KeyboardInterrupt, SystemExit):
                raise
            # a panic in a decoder written in Rust (RLE) is not an Exception
            except BaseException as error:
                failures.append(f"{name}: {type(error).__name__}")
            else:
                if variant is not encoded:
                    flags.add("padded_frame")
                return decoded
    if failures:
        raise _failed(layout, list(dict.fromkeys(failures)))
    raise MedicalImageError(
        f"No installed decoder reads the transfer syntax {_syntax_name(layout.transfer_syntax)}; "
        "pip install SimpleITK pylibjpeg pylibjpeg-openjpeg pylibjpeg-rle pyjpegls.",
        reason="no_decoder",
    )


def _variants(encoded: bytes, layout: PixelLayout) -> Iterator[bytes]:
    """Yield a frame unchanged, then a JPEG-LS frame without the padding before its end marker, byte by byte."""
    yield encoded
    if layout.transfer_syntax not in JPEGLSTransferSyntaxes:
        return
    end = encoded.rfind(_END_MARKER)
    body = encoded[:end] if end > 0 else encoded
    for _ in range(_MOST_PADDING):
        if body[-1:] not in (b"\0", b"\xff"):
            return
        body = body[:-1]
        yield body + _END_MARKER


def _decoder(name: str, layout: PixelLayout) -> Callable[[bytes, PixelLayout], Decoded] | None:
    if name == "SimpleITK":
        return decode_with_itk
    if name == "zlib":
        return decode_deflated
    if name not in get_decoder(layout.transfer_syntax).available_plugins:
        return None
    if layout.transfer_syntax == RLELossless and layout.bits_allocated == 1:
        return lambda encoded, layout: decode_packed_bits(encoded, layout, name)

    def decode(encoded: bytes, layout: PixelLayout) -> Decoded:
        values, properties = get_decoder(layout.transfer_syntax).as_array(
            # a container of this one frame: offset tables and other frames cannot mislead the decoder
            encapsulate([encoded], has_bot=False),
            index=0,
            raw=True,
            decoding_plugin=name,
            **decoder_options(layout, layout.photometric, frames=1),
        )
        return values, str(properties["photometric_interpretation"])

    return decode


def _syntax_name(syntax: UID) -> str:
    uid = transfer_syntax_name(syntax)
    return f"{uid} ({syntax.name})" if syntax.type == "Transfer Syntax" else uid


def _failed(layout: PixelLayout, failures: list[str]) -> MedicalImageError:
    return MedicalImageError(
        f"Every decoder failed on the pixel data ({', '.join(failures)}) with transfer syntax "
        f"{_syntax_name(layout.transfer_syntax)}; the data is damaged or contradicts the header.",
        reason="decode_failed",
    )


def decode_with_itk(encoded: bytes, layout: PixelLayout) -> tuple[np.ndarray, str]:
    """Decode one JPEG frame with SimpleITK.

    SimpleITK receives a small file that is written here, with the frame and the tags for decoding it. It turns the
    failures of GDCM, its decoder, into exceptions; called directly, GDCM ends the whole program.

    Args:
        encoded: the compressed frame, already checked against the size in ``layout``.
        layout: of the frame.

    Returns:
        Stored values (H, W) or (H, W, 3), and the photometric interpretation.

    Raises:
        ImportError: if SimpleITK is not installed.
        RuntimeError: if it cannot decode the frame.
        ValueError: if the shape of the result differs from ``layout``.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    # closed before it is read: some systems do not open a file twice
    with tempfile.NamedTemporaryFile(suffix=".dcm", delete=False) as file:
        file.write(_single_frame(encoded, layout))
    try:
        reader.SetFileName(file.name)
        image = reader.Execute()
    finally:
        os.unlink(file.name)
    values = sitk.GetArrayFromImage(image)
    shape = (layout.rows, layout.columns, 3)[: 2 if layout.samples == 1 else 3]
    return values.reshape(shape), _photometric(encoded, layout)


def _single_frame(encoded: bytes, layout: PixelLayout) -> bytes:
    """Return a DICOM file of this frame alone; written by hand because pydicom takes half as long as the decoding."""
    syntax = _text(layout.transfer_syntax)
    meta = (
        _element(0x0002, 0x0001, "OB", b"\0\1")
        + _element(0x0002, 0x0002, "UI", _text(SecondaryCaptureImageStorage))
        + _element(0x0002, 0x0003, "UI", _text("2.25.1"))
        + _element(0x0002, 0x0010, "UI", syntax)
    )
    # ITK would invert MONOCHROME1 and convert YBR; both are done after decoding
    photometric = b"MONOCHROME2 " if layout.samples == 1 else b"RGB "
    numbers = {
        0x0010: layout.rows,
        0x0011: layout.columns,
        0x0100: layout.bits_allocated,
        0x0101: layout.bits_stored,
        0x0102: layout.bits_stored - 1,
        0x0103: int(layout.signed),
    }
    return b"".join(
        [
            bytes(128) + b"DICM" + _element(0x0002, 0x0000, "UL", len(meta).to_bytes(4, "little")) + meta,
            _element(0x0008, 0x0016, "UI", _text(SecondaryCaptureImageStorage)),
            _element(0x0008, 0x0018, "UI", _text("2.25.1")),
            _element(0x0028, 0x0002, "US", layout.samples.to_bytes(2, "little")),
            _element(0x0028, 0x0004, "CS", photometric),
            b"" if layout.samples == 1 else _element(0x0028, 0x0006, "US", bytes(2)),
            *(_element(0x0028, element, "US", number.to_bytes(2, "little")) for element, number in numbers.items()),
            struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF),
            encapsulate([encoded]),
            struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
        ]
    )


def _element(group: int, element: int, vr: str, value: bytes) -> bytes:
    """Encode one element with a value of even length in Explicit VR Little Endian."""
    if vr == "OB":
        return struct.pack("<HH2sHI", group, element, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, element, vr.encode(), len(value)) + value


def _text(value: str) -> bytes:
    """Encode a UID, padded to an even length."""
    return value.encode("ascii") + b"\0" * (len(value) % 2)


def _photometric(encoded: bytes, layout: PixelLayout) -> str:
    """Return the photometric interpretation of the samples; component names R, G, B in the frame take precedence."""
    codestream = read_jpeg_header(encoded)
    if layout.samples == 3 and codestream is not None and codestream.holds_rgb:
        return "RGB"
    return layout.photometric
