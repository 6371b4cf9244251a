"""The command line; every verb parses and calls one stage."""
