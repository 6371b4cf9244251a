"""One file a kernel; the file's name is the plug-in's name."""
