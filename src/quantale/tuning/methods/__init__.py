"""One file a tuning method; the file's name is the plug-in's name."""
