"""From a source to a list: classes, patients, splits, domains, ids."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from movl_monai.data import Datalist, IdMap, read_datalist
from movl_monai.errors import DataError

MakeImages = Callable[..., Path]
MakeCsv = Callable[..., Path]
MakeDicom = Callable[..., Path]
SALT = "0123456789abcdef"


def counts(datalist: Datalist) -> dict[tuple[str, str | None, str], int]:
    return dict(Counter((i["domain"], i["split"], datalist.class_names[i["label"]]) for i in datalist))


@pytest.fixture
def folder(make_images: MakeImages) -> Path:
    """Two classes of 20 images, one per patient p00 .. p19."""
    return make_images([f"{label}/p{patient:02}.png" for label in ("grade2", "grade10") for patient in range(20)])


def test_class_folders_become_items_split_by_patient(folder: Path) -> None:
    datalist = read_datalist(folder, patient_pattern=r"(?P<patient>p\d+)", id_salt=SALT)
    assert datalist.class_names == ["grade2", "grade10"]
    expected = {"train": 12, "val": 4, "test": 4}
    assert counts(datalist) == {("id", s, c): n for s, n in expected.items() for c in datalist.class_names}
    splits: dict[str, set[str]] = {}
    for item in datalist:
        splits.setdefault(item["patient_id"], set()).add(item["split"])
        assert Path(item["image"]).parent.name == datalist.class_names[item["label"]]
        assert set(item) == {"image", "label", "patient_id", "split", "domain", "id"}
    assert all(len(found) == 1 for found in splits.values())


def test_items_are_ordered_and_split_alike_wherever_and_however_they_lie_on_disk(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for path in sorted(folder.rglob("*.png"), reverse=True):
        (elsewhere / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, elsewhere / path.relative_to(folder))
    one, other = (
        [
            (item["id"], item["split"], item["label"])
            for item in read_datalist(root, one_image_per_patient=True, id_salt=SALT)
        ]
        for root in (folder, elsewhere)
    )
    assert one == other


def test_the_seed_decides_the_split(folder: Path) -> None:
    splits = [
        tuple(sorted((i["image"], i["split"]) for i in read_datalist(folder, one_image_per_patient=True, seed=seed)))
        for seed in (0, 0, 1)
    ]
    assert splits[0] == splits[1] != splits[2]


def test_unknown_patients_are_refused_with_the_ways_out(folder: Path) -> None:
    with pytest.raises(DataError, match=r"patient of 40 of 40 is not known.*one_image_per_patient=True"):
        read_datalist(folder)


def test_without_fractions_nothing_is_split(folder: Path) -> None:
    assert {item["split"] for item in read_datalist(folder, split_fractions=None)} == {None}


def test_dicom_patients_split_a_folder(make_dicom: MakeDicom, tmp_path: Path) -> None:
    for index in range(20):
        make_dicom(tmp_path / "cd"[index % 2] / f"{index}.dcm", PatientID=str(index // 2), frames=1 + index % 2)
    datalist = read_datalist(tmp_path)
    splits = {(item["patient_id"], item["split"]) for item in datalist}
    assert len(splits) == 10
    assert sorted(item.get("frame", -1) for item in datalist) == [-1] * 10 + [0] * 10 + [1] * 10


def test_a_constant_dicom_patient_is_refused(make_dicom: MakeDicom, tmp_path: Path) -> None:
    for index in range(8):
        make_dicom(tmp_path / "cd"[index % 2] / f"{index}.dcm", PatientID="ANON")
    with pytest.raises(DataError, match=r"PatientID is absent, empty or the same everywhere.*CSV manifest"):
        read_datalist(tmp_path)


def test_other_domains_of_a_manifest_are_kept_with_their_split(make_csv: MakeCsv) -> None:
    rows = [f"i{n}.png,{'ab'[n % 2]},{n},,hospital_a" for n in range(20)]
    rows += ["o1.png,a,1,train,hospital_b", "o2.png,b,2,,hospital_b"]
    datalist = read_datalist(
        make_csv("path,label,patient_id,split,domain", *rows), id_domain="hospital_a", split_fractions=(0.5, 0.5, 0)
    )
    assert datalist.domains == ["hospital_a", "hospital_b"]
    assert datalist.ood_domains == ["hospital_b"]
    assert {i["split"] for i in datalist.select(domain="hospital_a")} == {"train", "val"}
    assert [i["split"] for i in datalist.select(domain="hospital_b")] == ["train", "test"]


def test_ood_folders_become_test_domains_with_other_ids(folder: Path, make_images: MakeImages) -> None:
    outside = make_images(["grade2/p00.png"], root="clinic_b")
    datalist = read_datalist(folder, ood_dataset_dirs=[outside, outside], one_image_per_patient=True, id_salt=SALT)
    assert datalist.domains == ["id", "clinic_b", "clinic_b_2"]
    assert counts(datalist.select(domain="clinic_b")) == {("clinic_b", "test", "grade2"): 1}
    assert len({item["id"] for item in datalist}) == 42


def test_a_class_that_training_does_not_know_is_named(folder: Path, make_images: MakeImages) -> None:
    outside = make_images(["Grade5/1.png"], root="clinic_b")
    with pytest.raises(DataError, match=r"Class 'Grade5' \(domain clinic_b\) is not one of .* grade2, grade10"):
        read_datalist(folder, ood_dataset_dirs=[outside], one_image_per_patient=True)


def test_given_class_names_fix_the_order_and_may_be_more(folder: Path) -> None:
    names = ["grade10", "grade2", "grade3"]
    datalist = read_datalist(folder, class_names=names, split_fractions=None)
    assert datalist.class_names == names
    assert {item["label"] for item in datalist if "grade10" in item["image"]} == {0}


def test_a_class_not_among_the_given_ones_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"Class 'grade10' \(domain id\) is not one of the classes grade2, grade3"):
        read_datalist(folder, class_names=["grade2", "grade3"], split_fractions=None)


def test_one_class_is_refused(make_images: MakeImages) -> None:
    with pytest.raises(DataError, match="two or more classes, got 1: only"):
        read_datalist(make_images(["only/1.png"]))


def test_a_domain_without_image_is_named_with_those_there_are(make_csv: MakeCsv) -> None:
    with pytest.raises(DataError, match=r"No image of the domain 'id'; the domains with images are: ct, mr\. Set"):
        read_datalist(make_csv("path,label,domain", "1.png,a,ct", "2.png,b,mr"))


def test_a_patient_in_two_splits_is_refused_or_allowed(make_csv: MakeCsv) -> None:
    rows = [
        f"{s}{label}.png,{label},p{label}{s if label == 'a' else ''},{s}"
        for s in ("train", "val", "test")
        for label in "ab"
    ]
    csv = make_csv("path,label,patient_id,split", *rows)
    with pytest.raises(DataError, match=r"1 of 4 patients .*train\+val\+test 1"):
        read_datalist(csv)
    assert len(read_datalist(csv, allow_patient_overlap=True)) == 6


def test_the_same_image_has_the_same_id_in_every_run_with_one_map(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    first, second = (read_datalist(folder, split_fractions=None, id_map=path) for _ in range(2))
    assert [item["id"] for item in first] == [item["id"] for item in second]
    assert IdMap(path).path_of(first[0]["id"]) == first[0]["image"]


def test_skipped_files_have_ids_too(folder: Path) -> None:
    (folder / "grade2" / ".DS_Store").write_bytes(b"x")
    datalist = read_datalist(folder, split_fractions=None)
    (skipped,) = datalist.skipped
    assert datalist.id_map.path_of(skipped.id) == str(folder / "grade2" / ".DS_Store")


def test_a_written_list_is_read_back_alike(folder: Path, tmp_path: Path, make_images: MakeImages) -> None:
    outside = make_images(["grade10/x.png"], root="clinic_b")
    datalist = read_datalist(folder, ood_dataset_dirs=[outside], patient_pattern=r"(?P<patient>p\d+)", id_salt=SALT)
    for target in (folder / "inside.json", tmp_path / "elsewhere" / "outside.json"):
        datalist.write(target)
        again = read_datalist(target, id_salt=SALT)
        assert again.class_names == datalist.class_names
        salted = [
            item | {"patient_id": item["patient_id"] and datalist.id_map.patient_id(item["patient_id"])}
            for item in datalist
        ]
        assert list(again) == salted


def test_chest_x_rays_are_counted_as_described(test_data: Path) -> None:
    datalist = read_datalist(test_data / "data" / "cxr_pneumonia")
    found = {(d, s): len(datalist.select(s, d)) for d in datalist.domains for s in ("train", "val", "test")}
    assert {place: count for place, count in found.items() if count} == {
        ("id", "train"): 1000,
        ("id", "val"): 200,
        ("id", "test"): 400,
        ("ood_nih", "test"): 250,
        ("ood_official_test", "test"): 624,
    }
    assert datalist.class_names == ["normal", "pneumonia"]
    assert not datalist.skipped


@pytest.mark.parametrize("from_headers", [False, True])
def test_ct_slices_are_split_by_patient_from_the_list_or_the_headers(
    test_data: Path, from_headers: bool, tmp_path: Path
) -> None:
    source = test_data / "data" / "ct_contrast_dicom"
    if from_headers:
        rows = [line.rsplit(",", 1)[0] for line in (source / "manifest.csv").read_text().splitlines()]
        (tmp_path / "list.csv").write_text("\n".join(rows))
        datalist = read_datalist(tmp_path / "list.csv", data_root=source)
    else:
        datalist = read_datalist(source)
    splits = {(item["patient_id"], item["split"]) for item in datalist}
    assert len(splits) == 54
    assert counts(datalist) == {
        ("id", split, label): pytest.approx(count, abs=2)
        for split, count in (("train", 30), ("val", 10), ("test", 10))
        for label in datalist.class_names
    }
