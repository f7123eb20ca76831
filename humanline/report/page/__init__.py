"""The page that shows all results at a scale: one HTML file that needs no network."""
