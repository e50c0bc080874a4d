"""The checks of the exercises, one module a chapter: ch05.py holds those of notebook 05."""
