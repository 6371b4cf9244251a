"""One file a format; the file's name is the plug-in's name."""
