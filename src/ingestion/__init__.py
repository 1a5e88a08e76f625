"""The door that the specification names; everything behind it is in the package `evalforge`."""
