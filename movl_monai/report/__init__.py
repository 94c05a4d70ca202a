"""HTML pages of reports: templates, style sheets, and the wording that they share."""

from .page import fit_pictures, render_template

__all__ = ["fit_pictures", "render_template"]
