"""What finished runs say without a law: places, noise of seeds, contrasts, regimes."""
