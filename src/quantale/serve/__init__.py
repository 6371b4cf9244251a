"""Models in people's hands: the side-by-side page and what guards it."""
