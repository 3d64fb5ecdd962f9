"""Readers of the formats in which others keep data: each gives documents, or pictures with labels, file by file."""
