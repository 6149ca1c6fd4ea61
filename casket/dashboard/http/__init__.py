"""The dashboard's server: routes, access control, responses."""
