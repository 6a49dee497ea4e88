"""Publishing what a run made: its files, a card about their origin, and the push to the Hub."""
