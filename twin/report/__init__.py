"""What happened in a replay? Figures, files, a page, and one decision in plain words."""
