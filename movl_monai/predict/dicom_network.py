"""The parts of DICOM networking that the listener stands on: limits, peers, what is accepted, sending."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai.errors import ConfigError

__all__ = [
    "OUT_OF_RESOURCES",
    "SUCCESS",
    "VERIFICATION",
    "Limits",
    "Peer",
    "image_classes",
    "pynetdicom_parts",
    "send",
    "transfer_syntaxes",
]

_LOGGER = logging.getLogger(__name__)

# of C-STORE, PS3.4 B.2.3
SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
VERIFICATION = "1.2.840.10008.1.1"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a peer may ask for.

    Args:
        associations: at the same time.
        instances: in one association.
        instance_bytes: of one object.
        bytes: in one association.
        seconds: without a sign of life, before the association is ended.
    """

    associations: int = 4
    instances: int = 4000
    instance_bytes: int = 2**29
    bytes: int = 2**33
    seconds: float = 60


@dataclass(frozen=True)
class Peer:
    """Where results are sent.

    Args:
        host: name or address.
        port: TCP port.
        ae_title: of the peer.
    """

    host: str
    port: int
    ae_title: str

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read ``AETITLE@host:port``.

        Raises:
            ConfigError: if it is something else.

        Example:
            >>> Peer.parse("PACS@127.0.0.1:104")
            Peer(host='127.0.0.1', port=104, ae_title='PACS')
        """
        title, at, address = text.partition("@")
        host, colon, port = address.rpartition(":")
        if not (at and colon and title and host and port.isdecimal() and len(title) <= 16):
            raise ConfigError(f"The peer must be AETITLE@host:port, got {text!r}.")
        return cls(host, int(port), title)


def send(files: Sequence[Path], peer: Peer, *, ae_title: str = "MOVL", seconds: float = 60) -> int:
    """Send DICOM files to a peer.

    Returns:
        how many it has taken.
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
    """Return ``AE`` and ``evt`` of pynetdicom, silenced.

    Raises:
        ConfigError: if it is missing.
    """
    try:
        from pynetdicom import AE, evt
    except ImportError as error:
        raise ConfigError("The listener needs pynetdicom: pip install 'movl-monai[listener]'.") from error
    # its own lines may quote what came
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    return AE, evt


def image_classes() -> list[str]:
    """Return the storage classes of images with pixels that can be predicted."""
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
