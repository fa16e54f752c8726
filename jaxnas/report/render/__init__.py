"""A report as a page: the document in order, HTML and Markdown."""
