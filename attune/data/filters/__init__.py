"""Steps that leave training records out by a rule; one file each."""
