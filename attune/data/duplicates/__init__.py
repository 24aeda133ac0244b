"""Steps that leave all but one of equal or alike training records; one file each."""
