"""The parts of `scripts/attack.py`: a project to attack, mutations of its files, a runner, and kills."""
