"""References: the numpy statement of NUMERICS.md, the PyTorch graph, and models that transformers lacks."""
