"""A traced bin as a picture; the only room that imports PIL, and `story` alone does without."""
