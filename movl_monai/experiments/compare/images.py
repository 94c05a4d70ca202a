"""Lists and images of a comparison, read and decoded at first use."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from movl_monai.data import concatenate
from movl_monai.data.keep import Keeping
from movl_monai.data.kept_splits import read_kept_splits
from movl_monai.data.make_splits import make_kept_splits
from movl_monai.experiments.compare.data import ComparisonData, TestData, TrainingData, draw_lists
from movl_monai.experiments.compare.folder import ComparisonFolder
from movl_monai.experiments.compare.setup import Setup, make_parser
from movl_monai.experiments.compare.training import read_record
from movl_monai.files import to_json, write_atomically

__all__ = ["ComparisonImages"]


class ComparisonImages:
    """Training images of each draw, and the test images, which are the same for all draws.

    Only one draw is held in memory at a time.

    Args:
        setup: the configurations without any arm.
        folder: of the comparison.
        dataset_dir: the data set.
        cache_dir: features that all arms share.
        draws: number of draws.
        chosen: the choices of :func:`~movl_monai.experiments.compare.data.split_lists`.

    Attributes:
        lists: of each draw.
    """

    def __init__(
        self,
        setup: Setup,
        folder: ComparisonFolder,
        *,
        dataset_dir: str,
        cache_dir: Path,
        draws: int,
        chosen: Mapping[str, Any],
    ) -> None:
        self.setup, self.folder = setup, folder
        self._paths = {"dataset_dir": dataset_dir, "output_dir": str(folder.path), "cache_dir": str(cache_dir)}
        kept: dict[str, Any] = {}
        if folder.splits.is_file():
            kept["datalist#kept_splits"] = str(folder.splits)
        parser = self._load(setup.train, **kept)
        seed = parser.get_parsed_content("seed")
        self.lists: list[ComparisonData] = draw_lists(
            parser.get_parsed_content("datalist"), draws=draws, seed=seed, **chosen
        )
        self._training: dict[int, TrainingData] = {}
        self._evaluated: dict[int, TestData] = {}

    def training(self, draw: int = 0) -> TrainingData:
        """Return the train and val images of a draw, with their shared features."""
        if draw not in self._training:
            datalist = self.lists[draw].training
            self._training = {}
            images = self._load(self.setup.train, datalist=datalist).get_parsed_content("images")
            data = TrainingData(datalist, images)
            with self.folder.piece("data", wait=True):
                self._keep_splits(data)
                self._prepare_features(data, draw)
            self._training = {draw: data}
        return self._training[draw]

    @cached_property
    def test(self) -> TestData:
        """Images of the reported figures."""
        datalist = self.lists[0].test
        return TestData(datalist, self._load(self.setup.evaluate, datalist=datalist).get_parsed_content("dataset"))

    def evaluated(self, draw: int = 0) -> TestData:
        """Return the test images and, for images with classes, the val images of a draw, which move the threshold."""
        if any(item["label"] is None for item in self.lists[draw].training):
            return self.test
        if draw not in self._evaluated:
            self._evaluated = {}
            val = self.training(draw).images.select(split="val")
            datalist = self.test.datalist.part([*val.instances, *self.test.datalist])
            self._evaluated = {draw: TestData(datalist, concatenate([val, self.test.images]))}
        return self._evaluated[draw]

    def feature_seconds(self) -> float | None:
        """Return the seconds for the shared features of the first draw, if they were computed here."""
        return read_record(self.folder.path / "features.json").get("seconds")

    def _load(self, config: Mapping[str, Any], *, progress: bool = False, **objects: Any) -> Any:
        """Return a parser of the common configuration."""
        return make_parser(config, self._paths, progress=progress, **objects)

    def _keep_splits(self, data: TrainingData) -> None:
        """Keep the splits for later calls, for the folders of the runs, and for a check of the test images."""
        if data.datalist.keeping is not None:
            return
        # another command that started at the same time may have written them
        kept = read_kept_splits(self.folder.splits) if self.folder.splits.is_file() else None
        if kept is None:
            kept = make_kept_splits(data.datalist, data.images)
            write_atomically(self.folder.splits, kept.write())
        for item in data.datalist.whole:
            item["known"] = item["split"] or "" if item["domain"] == data.datalist.id_domain else ""
        keeping = Keeping(kept=kept)
        for lists in self.lists:
            lists.training.keeping = lists.test.keeping = keeping

    def _prepare_features(self, data: TrainingData, draw: int) -> None:
        """Compute the features that arms share before any arm is timed."""
        parser = self._load(self.setup.train, progress=True, datalist=data.datalist, images=data.images)
        begin = time.perf_counter()
        for section in ("train", "validate"):
            if "features" in parser.get().get(section, {}):
                _ = parser.get_parsed_content(f"{section}#features").values
        path = self.folder.path / "features.json"
        if draw == 0 and not path.is_file():
            write_atomically(path, to_json({"seconds": time.perf_counter() - begin}).encode())
