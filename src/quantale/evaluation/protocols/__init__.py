"""Language-modelling protocols: one file each, found by name; each says what is scored how."""
