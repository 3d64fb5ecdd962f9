"""Data: documents and images become shards, shards are mapped into memory, and what is mapped becomes batches.

- sources, fonts, glyphs: where documents and images come from
- tokenizer: text to token ids and back
- prepare: a dataset to shards and a manifest; text by way of
  - judging: which documents are held out, and which came before
  - text: tokens of a group of files, and a receipt
  - workers: processes that share such work
- shards: the files
- manifest: what prepared data says of itself, and the shape a model must have for it (without torch)
- places, mapped: shards verified and cached by a machine when they are first touched, and seen as one long array
- keyed, objectives, stream: that array to a deterministic, seekable stream of batches
"""
