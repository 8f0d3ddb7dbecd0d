"""SQL of reports; reads only."""
