"""The container image: what builds it, and what is asked of it before it is released. docs/image.md tells how."""
