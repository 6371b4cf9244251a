"""Models in the formats of other programs, each export verified before it is sealed."""
