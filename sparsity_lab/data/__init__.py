"""Data: documents and images become Parquet shards, shards become memory maps, memory maps become batches.

- sources, fonts, glyphs: where documents and images come from
- tokenizer: text to token ids and back
- prepare, shards: documents and images to Parquet shards and a manifest
- manifest: what prepared data says of itself, and the shape a model must have for it (without torch)
- mapped: shards, verified once and unpacked into flat memory maps
- keyed, objectives, stream: memory maps to a deterministic, seekable stream of batches
"""
