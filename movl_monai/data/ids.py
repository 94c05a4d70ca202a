"""Salted short ids: the only names of images and patients outside of this machine's memory."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from movl_monai.errors import DataError

__all__ = ["IdMap", "Salter"]

_SHORT = 12


@dataclass(frozen=True)
class Salter:
    """Make salted names; small enough to send to worker processes.

    Args:
        salt: 16 or more bytes.

    Example:
        >>> Salter(b"0123456789abcdef").short("series", "1.2.3")
        'ad56fba1af23'
    """

    salt: bytes = field(repr=False)

    def digest(self, message: str) -> str:
        """Return the HMAC-SHA256 of a message, 64 hexadecimal digits."""
        return hmac.new(self.salt, message.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()

    def short(self, kind: str, name: str) -> str:
        """Return the salted id of a patient, study or series, 12 hexadecimal digits; it is irreversible."""
        return self.digest(f"{kind}\0{name}")[:_SHORT]


class IdMap:
    """Salted ids of files and patients, with the map from an id back to its file.

    ``id = hex(HMAC-SHA256(salt, key))`` cut to 12 digits (more if two files would share them). The key consists of the
    path relative to the data root, the domain for images of other domains, and the frame. Without the salt an id does
    not reveal the path, so reports may leave the site; the map may not.

    Args:
        path: local file of salt and map, readable only by its owner (mode 0600); read if it exists. None keeps both in
            memory, and the next run has other ids.
        salt: 16 or more characters or bytes; None uses the file's salt, or draws one.

    Attributes:
        salter: makes the ids.

    Raises:
        DataError: if the file is not an id map or holds another salt than the given one, or the salt is too short.

    Example:
        >>> ids = IdMap(salt="0123456789abcdef")
        >>> ids.add("train/a.png", path="/data/train/a.png")
        '8d3f60ce5503'
        >>> ids.path_of("8d3f60ce5503")
        '/data/train/a.png'
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, salt: str | bytes | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._files: dict[str, dict[str, Any]] = {}
        given = salt.encode() if isinstance(salt, str) else salt
        if given is not None and len(given) < 16:
            raise DataError(f"salt must have 16 or more bytes, got {len(given)}; leave it out to have one drawn.")
        stored = self._read() if self.path is not None and self.path.exists() else None
        if stored is not None and given is not None and stored != given:
            raise DataError(
                "The salt given is not the one in the id map file; use one of the two, as other salts make other ids."
            )
        self.salter = Salter(stored or given or secrets.token_bytes(16))

    def add(self, key: str, *, path: str | os.PathLike[str], frame: int | None = None) -> str:
        """Return the id of an image, and remember its path.

        Args:
            key: path relative to the data root, with the domain for images of other domains; unique in the project.
            path: absolute path, kept only in this map.
            frame: frame of a multi-frame file.

        Returns:
            12 hexadecimal digits, or more if 12 were taken by another key.
        """
        digest = self.salter.digest(f"image\0{key}\0{'' if frame is None else frame}")
        for length in range(_SHORT, len(digest) + 1, 4):
            known = self._files.get(digest[:length])
            if known is None or (known["key"], known["frame"]) == (key, frame):
                self._files[digest[:length]] = {"key": key, "frame": frame, "path": os.fspath(path)}
                return digest[:length]
        raise DataError("Two different files have the same SHA-256; one of them must be renamed.")

    def keep(self, image_id: str, key: str, *, path: str | os.PathLike[str], frame: int | None = None) -> str:
        """Remember an image under the id that an earlier list gives it.

        Raises:
            DataError: if the id is not 12 or more hexadecimal digits, or belongs to another image.
        """
        if not re.fullmatch(r"[0-9a-f]{12,64}", image_id):
            raise DataError("An id in the list is not 12 or more hexadecimal digits; remove it to have ids made.")
        known = self._files.get(image_id)
        if known is not None and (known["key"], known["frame"]) != (key, frame):
            raise DataError(
                f"The id {image_id} belongs to two images; remove the ids from the list to have new ones made."
            )
        self._files[image_id] = {"key": key, "frame": frame, "path": os.fspath(path)}
        return image_id

    def patient_id(self, patient: str) -> str:
        """Return the salted id of a patient, 12 hexadecimal digits; it is irreversible."""
        return self.salter.short("patient", patient)

    def path_of(self, image_id: str) -> str:
        """Return the absolute path of an image; for use on this machine only.

        Raises:
            DataError: if the id is not in the map.
        """
        if image_id not in self._files:
            raise DataError(f"No image has the id {image_id} in this map of {len(self._files)} images.")
        return str(self._files[image_id]["path"])

    def item_of(self, image_id: str) -> dict[str, Any]:
        """Return the input of preprocessing for an image: its path under ``image``, and an optional ``frame``.

        Raises:
            DataError: if the id is not in the map.
        """
        path, frame = self.path_of(image_id), self._files[image_id]["frame"]
        return {"image": path} if frame is None else {"image": path, "frame": int(frame)}

    def keys(self) -> dict[str, tuple[str, int | None]]:
        """Return key and frame of every id: common to two runs with different salts; never to be written elsewhere."""
        return {image_id: (str(file["key"]), file["frame"]) for image_id, file in self._files.items()}

    def __len__(self) -> int:
        return len(self._files)

    def save(self) -> None:
        """Write salt and map to ``path`` (mode 0600, replaced atomically); does nothing without a path."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}-{secrets.token_hex(4)}.tmp")
        # created with its final mode: others can never read it
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump({"salt": self.salter.salt.hex(), "files": self._files}, stream, indent=1)
            os.replace(partial, self.path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _read(self) -> bytes:
        try:
            content = json.loads(Path(self.path or "").read_text(encoding="utf-8"))
            self._files = {str(image_id): dict(entry) for image_id, entry in content["files"].items()}
            return bytes.fromhex(content["salt"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "The id map file is damaged or something else; restore it, or name another file (ids will differ)."
            ) from error
