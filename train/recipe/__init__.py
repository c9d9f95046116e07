"""Recipes: what a training run is made of, read from TOML and checked."""
