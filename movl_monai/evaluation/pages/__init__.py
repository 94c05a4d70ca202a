"""The sections of a report's page, one module each, and the charts that go with them."""

from .charts import draw_charts

__all__ = ["draw_charts"]
