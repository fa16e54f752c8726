"""Ask and tell: searches that are driven by a script or by hand."""
