"""Steps that add training records; one file each."""
