"""The applications write nothing that identifies a patient, except links to the source."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.deploy.test_prediction import CLASSIFIER, SEGMENTER, rows_of
from tests.predict.conftest import ROOT
from tests.privacy.objects import check_objects, headers, search_of
from tests.privacy.plant import PATH, plant_folder, plant_odd, plant_series
from tests.privacy.runs import WORDS, Runs
from tests.privacy.search import Search

pytestmark = [pytest.mark.usefixtures("with_sdk"), pytest.mark.slow]


# several in one process, because importing the SDK takes longer than what they do here
RUN_APPLICATIONS = """
import json, runpy, sys
codes = {}
for name, words in json.loads(sys.argv[1]).items():
    print(f"== {name}", file=sys.stderr)
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as error:
        codes[name] = error.code
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder of planted words, and their number."""
    folder = tmp_path_factory.mktemp("planted") / f"{PATH}_HOSPITAL"
    count = plant_folder(folder, patients=4)
    return folder, count + plant_series(folder / f"{PATH} SERIES") + plant_odd(folder / f"{PATH} ODD")


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, images: tuple[Path, int], models: dict[str, Path], with_sdk: None
) -> Runs:
    """Both kinds of application, including runs that fail."""
    folder, planted = images
    runs = Runs(folder=tmp_path_factory.mktemp("applications"), planted=planted)
    broken = folder.parent / f"{PATH} BROKEN"
    broken.mkdir()
    for name in ("CUT", "SHORT", "SYNTAX"):
        (broken / f"{PATH}-{name}.dcm").write_bytes((folder / f"{PATH}-{name}.dcm").read_bytes())
    (runs.folder / "damaged.ts").write_bytes(models[f"{CLASSIFIER}.ts"].read_bytes()[:-100])

    def words(bundle: str, source: Path, out: str | Path, model: Path | None = None) -> list[str]:
        app = ROOT / "bundles" / bundle / "deploy" / "app.py"
        chosen = model or models[f"{bundle}.ts"]
        return [str(app), "-i", str(source), "-o", str(runs.folder / out), "-m", str(chosen), "-l", "DEBUG"]

    applications = {
        "classification": words(CLASSIFIER, folder, "classified"),
        "segmentation": words(SEGMENTER, folder, "segmented"),
        "nothing": words(CLASSIFIER, broken, "nothing"),
        "damaged": words(CLASSIFIER, folder, "damaged", runs.folder / "damaged.ts"),
        "out in input": words(CLASSIFIER, folder, folder / "out"),
    }
    said = runs.run("applications", "-c", RUN_APPLICATIONS, json.dumps(applications))
    runs.codes |= json.loads(said.splitlines()[-1]) if runs.codes["applications"] == 0 else {}
    return runs


def test_what_can_be_predicted_is(runs: Runs) -> None:
    said = {name: content.decode(errors="replace") for name, content in runs.said.items()}
    assert runs.codes == {
        "applications": 0,
        "classification": 4,  # some of the files are broken on purpose
        "segmentation": 4,
        "nothing": 2,
        "damaged": 2,
        "out in input": 2,
    }, said
    for pattern in ("classified/sr/*.dcm", "classified/sc/*.dcm", "segmented/seg/*.dcm", "segmented/sc/*.dcm"):
        assert list(runs.folder.glob(pattern)), pattern
    for name in ("classified", "segmented"):
        assert {"ok", "failed"} == {row["status"] for row in rows_of(runs.folder / name)}


def test_no_planted_word_is_in_what_is_said_or_written(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    search = search_of(runs.folder)
    told = runs.searched(search)
    with capsys.disabled():
        print(told)
    assert not search.hits, "\n".join(search.hits[:20])
    assert runs.planted > 10_000


def test_only_the_id_map_and_the_list_of_files_have_paths_and_only_their_owner_can_read_them(runs: Runs) -> None:
    places = [path for path in runs.folder.rglob("local") if path.is_dir()]
    search = Search(WORDS)
    for place in places:
        search.folder(place)
    assert {(hit.split(" in ")[1].split(" at ")[0], hit.split(" in ")[0]) for hit in search.hits} == {
        ("id_map.json", PATH),
        ("files.csv", PATH),
    }
    for path in (path for name in ("id_map.json", "files.csv") for path in runs.folder.rglob(name)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["sr", "sc", "seg"])
def test_derived_objects_have_of_their_source_only_what_the_rule_copies(
    kind: str, runs: Runs, images: tuple[Path, int]
) -> None:
    places = check_objects(sorted(runs.folder.rglob(f"{kind}/*.dcm")), headers(images[0]))
    assert {("PatientName",), ("PatientID",), ("StudyInstanceUID",)} <= places
