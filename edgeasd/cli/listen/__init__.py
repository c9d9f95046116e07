"""`edgeasd listen` and `edgeasd devices`: the levels of microphones."""
