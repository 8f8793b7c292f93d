"""Work on the event loop: queues per key, and things done again and again."""
