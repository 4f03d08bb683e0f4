"""What the server does around the pages: start-up, preloading, and TCP options."""
