"""One file a format of others; the file's name is the name of the format."""
