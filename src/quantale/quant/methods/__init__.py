"""One file a method; the file's name is the plug-in's name."""
