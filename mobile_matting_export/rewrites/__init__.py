"""Rewrites of the graph, one per file; ``targets.py`` says which run, in which order."""
