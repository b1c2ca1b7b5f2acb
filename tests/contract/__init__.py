"""What crosses the boundary between kernel and page."""
