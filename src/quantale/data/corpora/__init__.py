"""One file a kind of corpus; the file's name is the plug-in's name."""
