"""tinyexport: from a trained tiny language model to a packed blob for microcontrollers."""

__version__ = "0.1.0"
