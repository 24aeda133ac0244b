"""Labelling of one's own data: which text to ask next, what was answered, how far annotators agree, when to stop."""
