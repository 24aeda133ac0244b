"""Word lists, one JSON file for each language; read by `attune.data.audit.terms`."""
