"""Numbers about generated stories: plain text in, numbers out; free of torch."""
