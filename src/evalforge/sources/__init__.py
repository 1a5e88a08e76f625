"""Where spans come from: one folder or file a vendor, each behind `evalforge.core.ports.Source`."""
