"""Sections of a report's page, one module each, and their charts."""

from .charts import draw_charts

__all__ = ["draw_charts"]
