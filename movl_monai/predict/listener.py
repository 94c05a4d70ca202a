"""`python -m movl_monai.predict.listener`: receive images over DICOM, predict them, send the results back.

A C-STORE SCP on this machine alone unless told otherwise; at other addresses it takes images of the titles that are
given with --allow_ae. What one association brings is predicted when it closes; the structured reports (or other
objects) go to another SCP, or stay in a folder. What was accepted lies under `incoming` in that folder until it is
predicted: a listener that was killed, or whose disk was full, goes on at its next start. DICOM over the network has
neither encryption nor passwords here, and titles are no secret: put an archive or router in front of it.
"""

from __future__ import annotations

import argparse
import logging
import queue
import secrets
import shutil
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from movl_monai import heap
from movl_monai.errors import ConfigError, MovlError
from movl_monai.files import write_atomically
from movl_monai.id_values import parse_overrides
from movl_monai.predict.dicom_network import (
    OUT_OF_RESOURCES,
    SUCCESS,
    VERIFICATION,
    Limits,
    Peer,
    check_address,
    check_titles,
    image_classes,
    pynetdicom_parts,
    send,
    transfer_syntaxes,
)
from movl_monai.readers.dicom.quiet import mute

__all__ = ["Limits", "Listener", "Peer", "main"]

_LOGGER = logging.getLogger(__name__)

_EXIT_USER_ERROR = 2
_DICOM_OUTPUTS = ("sr", "seg", "sc")


class Listener:
    """DICOM listener: receive images, predict them, and send the results back.

    Args:
        model: run, exported file or open model, see :func:`movl_monai.predict.run.predict`.
        out: folder of the results, with one subfolder per association; only one listener may use it at a time. Objects
            that an earlier listener left under `incoming` are predicted first.
        outputs: kinds of outputs; the default includes "sr".
        send_to: receiver of the DICOM results; None leaves them in ``out``.
        ae_title: title of this listener, which peers must call.
        allow_ae: titles of the peers that may send; () allows all, at a loopback address only.
        host: address to listen at; the default is reachable from this machine alone.
        port: TCP port; 0 takes a free one.
        limits: limits on the requests of peers.
        options: further arguments of :func:`movl_monai.predict.run.predict`.

    Raises:
        ConfigError: if pynetdicom is missing, the address cannot be listened at, a title is invalid, or other machines
            reach the address and ``allow_ae`` is empty.
        MovlError: if ``out`` cannot be written.
    """

    def __init__(
        self,
        model: Any,
        out: str | Path,
        *,
        outputs: Sequence[str] = ("csv", "sr"),
        send_to: Peer | None = None,
        ae_title: str = "MOVL",
        allow_ae: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 11112,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        **options: Any,
    ) -> None:
        self.model, self.out, self.outputs, self.send_to = model, Path(out), list(outputs), send_to
        (self.ae_title,), self.allow_ae = check_titles([ae_title]), check_titles(allow_ae)
        self.limits, self.options = limits, options
        check_address(host, self.allow_ae)
        self._spool = self.out / "incoming"
        self._arrived: dict[Any, _Arrival] = {}
        self._lock = threading.Lock()
        self._waiting: queue.Queue[_Arrival | None] = queue.Queue()
        self._worker = threading.Thread(target=self._work, name="movl-predict", daemon=True)
        self._server = self._start(host, port)
        self._unmute = mute()  # log lines of pynetdicom quote received data
        try:
            self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)  # readable by its owner only
            self._take_up_what_was_left()
        except OSError as error:
            self._server.shutdown()
            self._unmute()
            raise MovlError(
                f"The output folder cannot be written: {error.strerror or error}; choose another --output_dir."
            ) from error
        self._worker.start()

    @property
    def port(self) -> int:
        """The TCP port of the listener."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop accepting associations, predict all received objects, and end; a stopped listener cannot restart."""
        if not self._worker.is_alive():
            return
        self._server.shutdown()
        self._waiting.put(None)
        self._worker.join()
        self._unmute()

    def wait(self) -> None:
        """Wait until all received objects are predicted."""
        self._waiting.join()

    def _take_up_what_was_left(self) -> None:
        left = [_Arrival(folder) for folder in sorted(self._spool.iterdir()) if folder.is_dir()]
        for arrival in left:
            self._waiting.put(arrival)
        if left:
            _LOGGER.info("Predicting what an earlier listener has left: %d objects.", sum(one.count for one in left))

    def _start(self, host: str, port: int) -> Any:
        ae_class, evt = pynetdicom_parts()
        ae = ae_class(self.ae_title)
        ae.require_called_aet = True
        ae.require_calling_aet = self.allow_ae
        ae.maximum_associations = self.limits.associations
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self.limits.seconds
        for sop_class in (*image_classes(), VERIFICATION):  # and C-ECHO
            ae.add_supported_context(sop_class, transfer_syntaxes() if sop_class != VERIFICATION else None)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_CLOSE, self._closed),
            (evt.EVT_REJECTED, self._rejected),
        ]
        try:
            return ae.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise ConfigError(
                f"Port {port} cannot be listened at ({error.strerror or error}); choose another --port, or end the "
                "program that uses it."
            ) from error

    def _store(self, event: Any) -> int:
        """Write a received object unparsed; it is parsed later, where damage affects that file only."""
        with self._lock:
            if event.assoc not in self._arrived:
                self._arrived[event.assoc] = _Arrival(self._spool / secrets.token_hex(8))
            arrival = self._arrived[event.assoc]
        content = event.encoded_dataset()
        too_much = len(content) > self.limits.instance_bytes or arrival.bytes + len(content) > self.limits.bytes
        if too_much or arrival.count >= self.limits.instances:
            _LOGGER.warning("An object was refused: the association is over its limits.")
            return OUT_OF_RESOURCES
        try:
            arrival.add(content)
        except MovlError:  # its message names the folder
            _LOGGER.error("An object could not be kept: the disk is full, or the output folder cannot be written.")
            return OUT_OF_RESOURCES
        return SUCCESS

    def _rejected(self, event: Any) -> None:
        """Log the reason of a refusal but not the title of the peer, which is untrusted text."""
        stranger = self.allow_ae and event.assoc.requestor.ae_title.strip() not in self.allow_ae
        reason = "its calling title is not among --allow_ae" if stranger else "wrong called title, or too many at once"
        _LOGGER.warning("An association was refused: %s.", reason)

    def _closed(self, event: Any) -> None:
        """Queue the received objects for prediction, also after an abort: each one was accepted."""
        with self._lock:
            arrival = self._arrived.pop(event.assoc, None)
        if arrival is not None and arrival.count:
            self._waiting.put(arrival)

    def _work(self) -> None:
        while (arrival := self._waiting.get()) is not None:
            try:
                self._predict(arrival)
                shutil.rmtree(arrival.folder, ignore_errors=True)
            except MovlError as error:
                _LOGGER.error("%d objects are kept for the next start, as %s", arrival.count, error)
            except Exception as error:  # its text may quote received data; the listener continues
                _LOGGER.error("%d objects are kept for the next start (%s).", arrival.count, type(error).__name__)
            finally:
                self._waiting.task_done()
        self._waiting.task_done()

    def _predict(self, arrival: _Arrival) -> None:
        from movl_monai.predict.run import predict

        folder = self.out / arrival.folder.name
        settings: dict[str, Any] = {"num_workers": 0, "progress": False, **self.options}
        summary = predict(self.model, arrival.folder, out=folder, outputs=self.outputs, **settings)
        if summary is None:
            return
        _LOGGER.info("Predicted %d of %d objects.", summary.predicted, arrival.count)
        made = [path for kind in _DICOM_OUTPUTS for path in sorted((folder / kind).glob("*.dcm"))]
        if self.send_to is not None and made:
            sent = send(made, self.send_to, ae_title=self.ae_title, seconds=self.limits.seconds)
            _LOGGER.info("Sent %d of %d results; all of them are in the output folder.", sent, len(made))


class _Arrival:
    """Objects received so far in one association, in a folder that is created with the first object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        there = [path.stat().st_size for path in folder.glob("[0-9]*.dcm")]
        self.count, self.bytes = len(there), sum(there)

    def add(self, content: bytes) -> None:
        write_atomically(self.folder / f"{self.count:06d}.dcm", content)
        self.count += 1
        self.bytes += len(content)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m movl_monai.predict.listener", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "model", metavar="RUN|MODEL", help="output_dir of a training, its model.pt, or an exported file"
    )
    parser.add_argument("--output_dir", "--out", required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--outputs", default="csv,sr", metavar="A,B,...", help="see movl-monai predict (csv,sr)")
    parser.add_argument("--send_to", metavar="AE@HOST:PORT", help="where DICOM results are sent")
    parser.add_argument("--ae_title", default="MOVL", metavar="AE", help="own title (MOVL)")
    parser.add_argument(
        "--allow_ae",
        default="",
        metavar="A,B,...",
        help="titles that may send; needed with another --host",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, default=11112, help="TCP port (11112)")
    parser.add_argument("--device", metavar="D", help="cpu or cuda[:N] (a GPU where there is one)")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run code that the record names outside of movl_monai, MONAI and torch",
    )
    parser.add_argument("--bundle_dir", metavar="DIR", help="the bundle, where it is not found by itself")
    parser.epilog = "Every further `--id value` overrides that id of the run's config, as in movl-monai predict."
    parser.set_defaults(takes_overrides=True)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line until it is interrupted."""
    options, words = _parser().parse_known_args(arguments)
    options.overrides = words
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        return _listen(options)
    except MovlError as error:
        print(textwrap.fill(f"listener: {error}", width=110, break_long_words=False), file=sys.stderr)
        return _EXIT_USER_ERROR


def _listen(options: argparse.Namespace) -> int:
    titles = options.allow_ae.split(",") if options.allow_ae else []
    check_address(options.host, check_titles(titles))  # before anything is opened
    from movl_monai.predict.model import open_model

    heap.keep_free_memory()
    overrides = parse_overrides(options.overrides)
    listener = Listener(
        open_model(
            options.model,
            device=options.device,
            overrides=overrides,
            bundle_dir=options.bundle_dir,
            trust=options.trust,
        ),
        options.output_dir,
        outputs=options.outputs.split(","),
        send_to=None if options.send_to is None else Peer.parse(options.send_to),
        ae_title=options.ae_title,
        allow_ae=titles,
        host=options.host,
        port=options.port,
    )
    _LOGGER.info("Listening at %s:%d as %s; research use only.", options.host, listener.port, options.ae_title)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        listener.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
