"""Where state is kept; each store fulfils `protocols.StateStore`."""
