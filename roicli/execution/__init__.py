"""Which rows are pooled together, by whom, and what happens when that fails."""
