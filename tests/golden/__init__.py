"""A golden set of every file and message that the commands write.

`python -m tests.golden write DIR` records one, `python -m tests.golden check DIR` compares with it: before and after a
change that must change nothing, on one machine, with one version of torch.
"""
