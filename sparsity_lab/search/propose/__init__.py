"""What to try next: the space, the samplers, and the law that they know."""
