"""Documents of others, TOML or JSON, as frozen dataclasses; every mistake in them is told."""
