"""The network, its losses, and the augmentation of its input."""
