"""The .tlm format: one schema, its packers, and what is generated from it."""
