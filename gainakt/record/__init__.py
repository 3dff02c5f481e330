"""What a run leaves on disk: its folder, its checkpoints, and the pages and checks about them."""
