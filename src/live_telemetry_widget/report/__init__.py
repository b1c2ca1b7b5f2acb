"""A run for those who have no kernel: the fallback of a saved notebook, a page without script, a page with all of the view."""
