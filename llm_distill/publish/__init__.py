"""What a run made, given to others: the files, a card that says where they come from, the Hub."""
