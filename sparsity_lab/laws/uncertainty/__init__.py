"""How far the rows determine a fit: covariance, bootstrap, profiles, identifiability."""
