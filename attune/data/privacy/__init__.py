"""Personal data: detectors (one file a kind), and the step that masks, replaces or leaves out."""
