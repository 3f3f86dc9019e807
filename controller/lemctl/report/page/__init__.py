"""The report as one HTML file that needs nothing else: data, styles and scripts inside, no network."""
