"""DICOM networking for the listener: limits, peers, accepted objects, and sending."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai.errors import ConfigError
from movl_monai.readers.dicom.quiet import quiet

__all__ = [
    "OUT_OF_RESOURCES",
    "SUCCESS",
    "VERIFICATION",
    "Limits",
    "Peer",
    "check_address",
    "check_titles",
    "image_classes",
    "is_loopback",
    "pynetdicom_parts",
    "send",
    "transfer_syntaxes",
]

_LOGGER = logging.getLogger(__name__)

# status codes of C-STORE, PS3.4 B.2.3
SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
VERIFICATION = "1.2.840.10008.1.1"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on the requests of a peer.

    Args:
        associations: simultaneous associations.
        instances: objects in one association.
        instance_bytes: bytes of one object.
        bytes: bytes in one association.
        seconds: idle time after which an association is ended.
    """

    associations: int = 4
    instances: int = 4000
    instance_bytes: int = 2**29
    bytes: int = 2**33
    seconds: float = 60


@dataclass(frozen=True)
class Peer:
    """Receiver of the results.

    Args:
        host: name or address.
        port: TCP port.
        ae_title: application entity title.
    """

    host: str
    port: int
    ae_title: str

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Parse ``AETITLE@host:port``.

        Raises:
            ConfigError: if the text has another form.

        Example:
            >>> Peer.parse("PACS@127.0.0.1:104")
            Peer(host='127.0.0.1', port=104, ae_title='PACS')
        """
        title, at, address = text.partition("@")
        host, colon, port = address.rpartition(":")
        if not (at and colon and title and host and port.isdecimal() and len(title) <= 16):
            raise ConfigError(f"The peer must be AETITLE@host:port, got {text!r}.")
        return cls(host, int(port), title)


@quiet()
def check_titles(titles: Sequence[str]) -> list[str]:
    """Return application entity titles without the spaces around them.

    Raises:
        ConfigError: if one is empty, longer than 16 characters, or has a backslash or a control character (PS3.5 6.2).

    Example:
        >>> check_titles(["PACS ", "CT_1"])
        ['PACS', 'CT_1']
    """
    found = [title.strip(" ") for title in titles]
    wrong = [title for title in found if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable()]
    wrong += [title for title in found if "\\" in title]
    if wrong:
        raise ConfigError(
            "A title of an application entity has 1 to 16 printable ASCII characters and no backslash, got "
            f"{wrong[0]!r}."
        )
    return found


def check_address(host: str, titles: Sequence[str]) -> None:
    """Refuse an address that other machines reach if no list of allowed titles is given.

    Raises:
        ConfigError: if ``titles`` is empty and the address is not a loopback address.
    """
    if not titles and not is_loopback(host):
        raise ConfigError(
            f"Other machines reach the address {host!r}: name the titles of those that may send, --allow_ae PACS,CT1, "
            "or listen at --host 127.0.0.1 behind an archive or router on this machine."
        )


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine alone.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("")
        (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def send(files: Sequence[Path], peer: Peer, *, ae_title: str = "MOVL", seconds: float = 60) -> int:
    """Send DICOM files to a peer.

    Returns:
        number of files that the peer accepted.
    """
    from pydicom import dcmread

    ae_class, _ = pynetdicom_parts()
    ae = ae_class(ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = seconds
    datasets = [dcmread(path) for path in files]
    for sop_class in sorted({str(dataset.SOPClassUID) for dataset in datasets}):
        ae.add_requested_context(sop_class)
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    if not association.is_established:
        _LOGGER.error("The peer for results does not accept an association; they stay in the output folder.")
        return 0
    sent = 0
    for dataset in datasets:
        try:
            status = association.send_c_store(dataset)
        except ValueError:  # no context was accepted for this kind of object
            continue
        sent += bool(status) and status.Status == SUCCESS
    association.release()
    return sent


def pynetdicom_parts() -> tuple[Any, Any]:
    """Return ``AE`` and ``evt`` of pynetdicom.

    Its log lines quote received data: mute them with :func:`mute`.

    Raises:
        ConfigError: if pynetdicom is missing.
    """
    try:
        from pynetdicom import AE, evt
    except ImportError as error:
        raise ConfigError("The listener needs pynetdicom: pip install 'movl-monai[listener]'.") from error
    return AE, evt


def image_classes() -> list[str]:
    """Return the storage classes of images that can be predicted."""
    from pydicom import uid

    names = (
        *("CTImageStorage", "EnhancedCTImageStorage", "MRImageStorage", "EnhancedMRImageStorage"),
        *("ComputedRadiographyImageStorage", "DigitalXRayImageStorageForPresentation"),
        *("DigitalMammographyXRayImageStorageForPresentation", "PositronEmissionTomographyImageStorage"),
        *("UltrasoundImageStorage", "UltrasoundMultiFrameImageStorage", "SecondaryCaptureImageStorage"),
        *("VLEndoscopicImageStorage", "VLPhotographicImageStorage", "OphthalmicPhotography8BitImageStorage"),
        *("MultiFrameGrayscaleByteSecondaryCaptureImageStorage", "NuclearMedicineImageStorage"),
    )
    return [str(getattr(uid, name)) for name in names]


def transfer_syntaxes() -> list[str]:
    """Return the transfer syntaxes that the reader can decode."""
    from pydicom import uid

    names = (
        *("ExplicitVRLittleEndian", "ImplicitVRLittleEndian", "JPEGLosslessSV1", "JPEGLossless", "JPEGBaseline8Bit"),
        *("JPEGExtended12Bit", "JPEGLSLossless", "JPEG2000Lossless", "JPEG2000", "RLELossless"),
    )
    return [str(getattr(uid, name)) for name in names]
