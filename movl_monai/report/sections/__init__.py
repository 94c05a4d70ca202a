"""Sections of a report's page, one module each, and their charts."""

from movl_monai.report.sections.charts import draw_charts

__all__ = ["draw_charts"]
