"""What a study says to people: findings, a verdict, and one page that carries both with their evidence."""
