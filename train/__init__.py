"""The offline trainer: recordings of normal sound in, a model file out."""
