"""The one import of ArviZ, under the interface of ArviZ 1.x: ``from bayesreg.posteriors.arviz_interface import az``.

It takes seconds, so it is imported where it is used and not at the top of a module.
"""

try:  # ArviZ 0.23, the last one for Python 3.11, has the interface of 1.x as a preview
    import arviz.preview as az
except ModuleNotFoundError:
    import arviz as az

__all__ = ["az"]
