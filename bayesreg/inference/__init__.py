"""Inference engines: one engine, one file."""
