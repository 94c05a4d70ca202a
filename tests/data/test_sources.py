"""Choice of the reader for each source, and names of the domains from outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from movl_monai.data import read_datalist, read_mask_datalist
from movl_monai.data.entries import Entry, Listing
from movl_monai.data.sources import LAYOUTS, Layout, read_far_source, read_ood_sources, read_source
from movl_monai.errors import DataError
from movl_monai.ingest.labels import read_checked

MakeImages = Callable[..., Path]


@pytest.fixture
def folder(make_images: MakeImages) -> Path:
    return make_images(["folder_class/1.png", "other/2.png"])


def labels(source: Path) -> set[str | None]:
    return {entry.label for entry in read_source(source).entries}


def test_a_folder_without_list_is_class_folders(folder: Path) -> None:
    assert labels(folder) == {"folder_class", "other"}


@pytest.mark.parametrize("name", ["dataset.json", "datalist.json"])
def test_the_list_in_a_folder_wins_over_its_folders(folder: Path, name: str) -> None:
    (folder / name).write_text(json.dumps({"training": [{"image": "other/2.png", "label": "json_class"}]}))
    assert labels(folder) == labels(folder / name) == {"json_class"}


def test_the_manifest_wins_over_json(folder: Path) -> None:
    (folder / "dataset.json").write_text(json.dumps({"training": [{"image": "other/2.png", "label": "json_class"}]}))
    (folder / "manifest.csv").write_text("path,label\nother/2.png,csv_class\n")
    assert labels(folder) == {"csv_class"}


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder 'nothing'"):
        read_source(tmp_path / "nothing")


def test_a_source_of_another_kind_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match=r"must be a \.csv or \.json file, or a folder, got '\.png'"):
        read_source(folder / "other" / "2.png")


def test_a_list_whose_files_are_all_missing_is_an_error(folder: Path) -> None:
    (folder / "manifest.csv").write_text("path,label\nx.png,a\ny.png,b\n")
    with pytest.raises(DataError, match=r"No image was found \(missing_file 2\).*folder of the list"):
        read_source(folder)


def read_by_name(folder: Path, *, mask_suffix: str = "") -> Listing:
    """A layout of one's own: `grade_<class>.png`, and a mask of the same name with a suffix."""
    listing = Listing()
    for path in sorted(folder.glob("grade_?.png")):
        mask = folder / f"{path.stem}{mask_suffix}.png"
        listing.entries.append(Entry(path=path, key=path.name, label=path.stem[-1], mask=mask))
    return listing


def test_a_layout_is_added_by_its_entry_alone(make_images: MakeImages, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_images([f"grade_{name}{end}" for name in "abc" for end in (".png", ".seg.png")])
    with pytest.raises(DataError, match="one folder per class"):
        read_datalist(folder, one_image_per_patient=True)
    own = Layout(fits=lambda one: any(one.glob("grade_?.png")), labels=read_by_name, masks=read_by_name)
    monkeypatch.setitem(LAYOUTS, "by_name", own)
    assert read_datalist(folder, one_image_per_patient=True, split_fractions=None).class_names == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"group_columns=\['sex'\] are columns of a list"):
        read_datalist(folder, one_image_per_patient=True, group_columns=["sex"])
    pairs = read_mask_datalist(folder, one_image_per_patient=True, mask_suffix=".seg", split_fractions=None)
    assert [Path(item["mask"]).name for item in pairs] == [f"grade_{name}.seg.png" for name in "abc"]
    checked = read_checked(folder)  # the command `check` takes the pairs of training
    assert checked is not None
    assert len(checked.entries) == len(read_far_source(folder).entries) == 3
    (folder / "manifest.csv").write_text("path,label\ngrade_a.png,x\ngrade_b.png,y\n")
    assert labels(folder) == {"x", "y"}
    assert len(read_far_source(folder).entries) == 2
    monkeypatch.setitem(LAYOUTS, "by_name", replace(own, has_list=True))
    assert labels(folder) == {"a", "b", "c"}


def ood_domains(*sources: Path, taken: set[str] = frozenset()) -> list[set[str | None]]:  # type: ignore[assignment]
    listings = read_ood_sources(list(sources), taken=taken, patient_pattern=None)
    assert all(entry.split == "test" for listing in listings for entry in listing.entries)
    return [{entry.domain for entry in listing.entries} for listing in listings]


def test_a_domain_is_called_like_its_folder(folder: Path, tmp_path: Path) -> None:
    named = folder.rename(tmp_path / "clinic_b")
    assert ood_domains(named) == [{"clinic_b"}]
    (named / "manifest.csv").write_text("path,label,domain,split\nother/2.png,x,id,train\n")
    (named / "clinic_c.csv").write_text("path,label\nother/2.png,x\n")
    found = ood_domains(named, named / "manifest.csv", named / "clinic_c.csv")
    assert found == [{"clinic_b"}, {"clinic_b_2"}, {"clinic_c"}]


def test_several_domains_of_one_source_stay_apart(folder: Path, tmp_path: Path) -> None:
    named = folder.rename(tmp_path / "clinic")
    (named / "manifest.csv").write_text("path,label,domain\nother/2.png,x,ct\nfolder_class/1.png,x,\n")
    assert ood_domains(named, taken={"clinic_ct"}) == [{"clinic", "clinic_ct_2"}]


def test_the_same_relative_path_in_two_sources_has_two_keys(folder: Path) -> None:
    listings = read_ood_sources([folder, folder], taken=set(), patient_pattern=None)
    assert len({entry.key for listing in listings for entry in listing.entries}) == 4


def test_one_path_is_one_source(folder: Path) -> None:
    assert len(read_ood_sources(str(folder), taken=set(), patient_pattern=None)) == 1


def test_patients_follow_from_the_pattern_relative_to_each_source(folder: Path) -> None:
    (listing,) = read_ood_sources(folder, taken=set(), patient_pattern=r"^other/(?P<patient>\d)")
    assert {entry.patient for entry in listing.entries} == {None, "2"}
