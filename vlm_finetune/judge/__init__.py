"""Judge captions: what they state against what is there, and how they read."""
