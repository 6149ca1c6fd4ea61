"""Reading experiments: from records to views, frames and tables."""
