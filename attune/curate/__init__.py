"""Training data from documents and from unlabelled text: written by a model, checked against the source, reviewed."""
