"""Predict images, slices and volumes with a run or an exported file, without a data loader or a data set in memory."""
