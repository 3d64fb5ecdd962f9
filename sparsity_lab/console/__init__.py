"""What a command prints: text for people, JSON for programs, figures for `--plot`."""
