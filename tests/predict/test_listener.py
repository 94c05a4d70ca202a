"""The listener on loopback: one application entity sends images, another receives the reports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

pynetdicom = pytest.importorskip("pynetdicom")

from movl_monai.errors import ConfigError  # noqa: E402
from movl_monai.predict.dicom import read_classification_report  # noqa: E402
from movl_monai.predict.listener import Limits, Listener, Peer, main  # noqa: E402
from movl_monai.predict.model import open_model  # noqa: E402

DX = "1.2.840.10008.5.1.4.1.1.1.1"
SR = "1.2.840.10008.5.1.4.1.1.88.34"


@pytest.fixture
def archive() -> Iterator[tuple[Peer, list[Dataset]]]:
    """An SCP that receives structured reports."""
    taken: list[Dataset] = []

    def store(event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        taken.append(dataset)
        return 0

    ae = pynetdicom.AE("ARCHIVE")
    ae.require_called_aet = True
    ae.add_supported_context(SR)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, store)])
    yield Peer("127.0.0.1", server.server_address[1], "ARCHIVE"), taken
    server.shutdown()


@pytest.fixture
def listen(classifier_run: Path, tmp_path: Path) -> Iterator[Callable[..., Listener]]:
    started: list[Listener] = []

    def start(**options: Any) -> Listener:
        model = open_model(classifier_run, device="cpu")
        started.append(Listener(model, tmp_path / "results", port=0, batch_size=2, **options))
        return started[-1]

    yield start
    for listener in started:
        listener.stop()


def send(listener: Listener, files: list[Path], *, ae_title: str = "MOVL", calling: str = "SCANNER") -> list[int]:
    ae = pynetdicom.AE(calling)
    ae.add_requested_context(DX)
    association = ae.associate("127.0.0.1", listener.port, ae_title=ae_title)
    if not association.is_established:
        return []
    found = [association.send_c_store(dcmread(path)).Status for path in files]
    association.release()
    return found


def test_images_come_in_and_reports_go_back(
    listen: Callable[..., Listener],
    archive: tuple[Peer, list[Dataset]],
    phantom_files: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="movl_monai")
    peer, taken = archive
    listener = listen(send_to=peer)
    files = sorted(phantom_files.rglob("*.dcm"))[:3]
    assert send(listener, files) == [0, 0, 0]
    listener.stop()
    assert len(taken) == 3  # every image of the phantom is a study of its own
    sources = {str(dcmread(path).SOPInstanceUID) for path in files}
    reported = set()
    for number, document in enumerate(taken):
        path = tmp_path / f"{number}.dcm"
        document.save_as(path, enforce_file_format=True)
        (finding,) = read_classification_report(path, ["no_lesion", "lesion"])
        reported.add(finding.sop_instance_uid)
    assert reported == sources
    assert not list((tmp_path / "results" / "incoming").iterdir())  # nothing that came in is left
    for word in (*sources, "PHANTOM", "Phantom", str(tmp_path)):
        assert word not in caplog.text
    assert "Predicted 3 of 3" in caplog.text


def test_an_association_over_its_limits_and_a_wrong_title_are_refused(
    listen: Callable[..., Listener], phantom_files: Path, tmp_path: Path
) -> None:
    listener = listen(limits=Limits(instances=2))
    files = sorted(phantom_files.rglob("*.dcm"))
    assert send(listener, files[:3]) == [0, 0, 0xA700]
    assert send(listener, files[:1], ae_title="OTHER") == []
    listener.stop()
    assert len(list((tmp_path / "results").glob("*/sr/*.dcm"))) == 2


def test_strangers_are_rejected_with_the_reason_of_the_standard(
    listen: Callable[..., Listener], phantom_files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="movl_monai")
    listener = listen(allow_ae=["SCANNER ", "OTHER"])
    files = sorted(phantom_files.rglob("*.dcm"))[:1]
    assert send(listener, files) == [0]
    ae = pynetdicom.AE("STRANGER")
    ae.add_requested_context(DX)
    association = ae.associate("127.0.0.1", listener.port, ae_title="MOVL")
    assert association.is_rejected
    answer = association.acceptor.primitive
    # rejected permanently, by the service user: calling-AE-title-not-recognized (PS3.8 9.3.4)
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 3)
    listener.stop()
    assert "its calling title is not among --allow_ae" in caplog.text
    assert "STRANGER" not in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org"])
def test_an_address_of_other_machines_needs_the_titles_that_may_send(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--allow_ae"):
        Listener("unused", tmp_path, host=host, port=0)


@pytest.mark.parametrize("title", ["", "SEVENTEENLETTERSX", "A\\B", "A\n", "Ä"])
def test_impossible_titles_are_refused(title: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 to 16 printable ASCII characters"):
        Listener("unused", tmp_path, port=0, allow_ae=["PACS", title])


def test_the_command_says_errors_as_a_paragraph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unused", "--out", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "--allow_ae PACS,CT1" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--bundle_dir", "/nowhere"], "no bundle"), (["--image_siz", "9"], "did you mean 'image_size'")],
)
def test_the_command_takes_what_opening_a_run_may_need(
    classifier_run: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(classifier_run), "--out", str(tmp_path), "--device", "cpu", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_results_stay_where_the_peer_takes_none(
    listen: Callable[..., Listener],
    archive: tuple[Peer, list[Dataset]],
    phantom_files: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="movl_monai")
    listener = listen(send_to=Peer("127.0.0.1", archive[0].port, "NOBODY"))
    send(listener, sorted(phantom_files.rglob("*.dcm"))[:1])
    listener.stop()
    assert len(list((tmp_path / "results").glob("*/sr/*.dcm"))) == 1
    assert "stay in the output folder" in caplog.text


def test_what_was_accepted_and_not_predicted_is_predicted_at_the_next_start(
    listen: Callable[..., Listener],
    phantom_files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import movl_monai.predict.run as run

    caplog.set_level(logging.INFO, logger="movl_monai")
    original = run.predict

    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(run, "predict", full)
    first = listen()
    assert send(first, sorted(phantom_files.rglob("*.dcm"))[:2]) == [0, 0]
    first.stop()
    assert "2 objects are kept for the next start" in caplog.text
    assert len(list((tmp_path / "results" / "incoming").rglob("*.dcm"))) == 2
    monkeypatch.setattr(run, "predict", original)
    second = listen()
    second.stop()
    assert len(list((tmp_path / "results").glob("*/sr/*.dcm"))) == 2
    assert not list((tmp_path / "results" / "incoming").iterdir())
    assert str(tmp_path) not in caplog.text


def test_a_port_in_use_is_a_clear_error(listen: Callable[..., Listener], classifier_run: Path, tmp_path: Path) -> None:
    listener = listen()
    with pytest.raises(ConfigError, match=f"Port {listener.port}"):
        Listener("unused", tmp_path, port=listener.port)


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "@host:1", "A@host:x", "SEVENTEENLETTERSX@h:1"])
def test_a_peer_must_have_title_host_and_port(text: str) -> None:
    with pytest.raises(ConfigError, match="AETITLE@host:port"):
        Peer.parse(text)
