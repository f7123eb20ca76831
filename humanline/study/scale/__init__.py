"""A scale's file, section by section."""
