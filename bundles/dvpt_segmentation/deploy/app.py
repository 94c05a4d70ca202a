"""MONAI Deploy application: segments one series of each study, and writes DICOM SEG, pictures and a table."""

from movl_monai.deploy import (
    CaptureWriterOperator,
    DeployApplication,
    SegmentationOperator,
    SegmentationWriterOperator,
    SeriesSelectorOperator,
    StudyLoaderOperator,
    TableWriterOperator,
    main,
)

# which series is predicted, in the words of the SDK's DICOMSeriesSelectorOperator; exactly one of a study must fit
RULES = """
{"selections": [{"name": "images", "conditions": {"Modality": "^(CT|MR|CR|DX|MG|US)$"}}]}
"""


class App(DeployApplication):
    """Loader, selector, inference, writers."""

    def compose(self) -> None:
        """Connect the operators."""
        paths = self.paths()
        loader = StudyLoaderOperator(self, input_folder=paths.input, name="loader")
        selector = SeriesSelectorOperator(self, rules=RULES, name="selector")
        inference = SegmentationOperator(
            self, model=paths.model, bundle="dvpt_segmentation", output_folder=paths.output, name="inference"
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, inference, {("study_selected_series_list", "series")})
        for writer in (SegmentationWriterOperator, CaptureWriterOperator, TableWriterOperator):
            self.add_flow(inference, writer(self, output_folder=paths.output, name=writer.__name__))


if __name__ == "__main__":
    raise SystemExit(main(App))
