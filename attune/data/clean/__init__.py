"""Steps that make texts and labels uniform; one file each."""
