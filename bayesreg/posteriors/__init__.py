"""Draws from a posterior: their summary, units, files and ArviZ groups."""
