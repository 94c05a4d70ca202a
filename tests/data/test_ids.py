"""Salted ids: stable, unlinkable without the salt, and kept privately."""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
from pathlib import Path

import pytest

from movl_monai.data import IdMap
from movl_monai.errors import DataError

SALT = "0123456789abcdef"


def test_an_id_is_the_cut_hmac_of_key_and_frame() -> None:
    expected = hmac.new(SALT.encode(), b"image\0a/b.png\0" + b"3", hashlib.sha256).hexdigest()[:12]
    assert IdMap(salt=SALT).add("a/b.png", path="/x/a/b.png", frame=3) == expected


def test_frames_and_files_have_different_ids_and_the_same_file_always_the_same() -> None:
    ids = IdMap()
    made = [ids.add(key, path=key, frame=frame) for key in ("a", "b") for frame in (None, 0, 1)]
    again = [ids.add(key, path=key, frame=frame) for key in ("a", "b") for frame in (None, 0, 1)]
    assert made == again
    assert len(set(made)) == len(ids) == 6


def test_another_salt_makes_other_ids_also_of_patients() -> None:
    one, other = IdMap(), IdMap()
    assert one.add("a", path="/a") != other.add("a", path="/a")
    assert one.patient_id("p") != other.patient_id("p")


def test_a_taken_id_is_lengthened() -> None:
    ids = IdMap(salt=SALT)
    short = IdMap(salt=SALT).add("a", path="/a")
    ids.keep(short, "another", path="/another")
    longer = ids.add("a", path="/a")
    assert longer.startswith(short)
    assert len(longer) == 16
    assert (ids.path_of(short), ids.path_of(longer)) == ("/another", "/a")


def test_the_file_is_private_and_gives_the_same_ids_again(tmp_path: Path) -> None:
    ids = IdMap(tmp_path / "private" / "ids.json")
    made = ids.add("a", path="/data/a", frame=2)
    ids.save()
    assert stat.S_IMODE((tmp_path / "private" / "ids.json").stat().st_mode) == 0o600
    again = IdMap(tmp_path / "private" / "ids.json")
    assert again.path_of(made) == "/data/a"
    assert again.add("a", path="/moved/a", frame=2) == made
    assert [path.name for path in (tmp_path / "private").iterdir()] == ["ids.json"]


def test_saving_closes_a_file_that_others_could_read(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    IdMap(path).save()
    path.chmod(0o644)
    IdMap(path).save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_leaves_the_map_as_it_was_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = IdMap(tmp_path / "map.json", salt=SALT)
    ids.save()
    before = (tmp_path / "map.json").read_bytes()
    ids.add("a", path="/a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        ids.save()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_a_map_in_memory_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    IdMap().save()
    assert list(tmp_path.iterdir()) == []


def test_two_salts_are_refused(tmp_path: Path) -> None:
    IdMap(tmp_path / "ids.json").save()
    with pytest.raises(DataError, match="not the one in the id map file"):
        IdMap(tmp_path / "ids.json", salt=SALT)


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"salt": "zz", "files": {}}), json.dumps({"salt": "00"})])
def test_a_damaged_map_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "ids.json").write_text(content)
    with pytest.raises(DataError, match="id map file is damaged"):
        IdMap(tmp_path / "ids.json")


def test_a_short_salt_is_refused() -> None:
    with pytest.raises(DataError, match="16 or more bytes, got 4"):
        IdMap(salt="salt")


def test_an_id_that_is_not_one_is_not_kept() -> None:
    with pytest.raises(DataError, match="12 or more hexadecimal"):
        IdMap().keep("Jane Doe", "a", path="/a")


def test_an_id_of_two_images_is_refused() -> None:
    ids = IdMap()
    ids.keep("0" * 12, "a", path="/a")
    with pytest.raises(DataError, match="belongs to two images"):
        ids.keep("0" * 12, "b", path="/b")


def test_an_unknown_id_is_an_error() -> None:
    with pytest.raises(DataError, match="No image has the id"):
        IdMap().path_of("0" * 12)
