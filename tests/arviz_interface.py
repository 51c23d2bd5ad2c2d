"""The one import of ArviZ in the tests, under the interface of ArviZ 1.x: ``from arviz_interface import az``."""

try:  # ArviZ 0.23, the last one for Python 3.11, has the interface of 1.x as a preview
    import arviz.preview as az
except ModuleNotFoundError:
    import arviz as az

__all__ = ["az"]
