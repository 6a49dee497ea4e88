"""What is made small, each summed over what it is a mean of."""
