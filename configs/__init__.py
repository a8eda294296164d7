"""Recipes: each file has `get_config(setting)`; only what differs from its parent is written."""
