"""Runs shown in other people's trackers: curves while they are trained, what came of them at their end."""
