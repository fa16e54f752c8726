"""Reports: ``build(paths, out)`` makes a page that can be checked from run directories."""

from jaxnas.report.assemble import Report, build

__all__ = ["Report", "build"]
