"""How many files our reader and MONAI's two read right, beside dcmtk (`python -m movl_monai.bench.readers`)."""
