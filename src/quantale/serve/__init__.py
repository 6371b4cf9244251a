"""Models in people's hands: an OpenAI-style server and a page, behind one guard."""
