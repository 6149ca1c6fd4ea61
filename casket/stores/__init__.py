"""Where records are kept: one module a store, all behind the protocol in `base`."""
