"""Notebooks as files: run headless, rendered, linted."""
