"""HTML pages of reports: templates, style sheets, and the wording that they share."""

from .page import render_template
from .pictures import fit_pictures

__all__ = ["fit_pictures", "render_template"]
