"""What a deployment installs, written down and checked: locks with hashes, the bill of materials, the advisory check."""
