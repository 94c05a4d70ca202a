"""Correctly read files of our reader and of MONAI's two, by dcmtk (`python -m benchmarks.readers`)."""
