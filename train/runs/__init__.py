"""A training run: its folder, its epochs, and several processes that share them."""
