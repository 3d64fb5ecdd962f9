"""Figures: `info_*` computes what is drawn, `draw_*` draws it, `style` says how it looks, `figures` saves it."""
