"""Rows of any origin: tables, expressions over their columns, runs."""
