"""Where models come from: folders, adapters, the Hub."""
