"""The search of a study: its step, what it is set up from, and where it stands."""
