"""Quality, speed and memory measurements and their statistics."""
