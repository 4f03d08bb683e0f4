"""One file a question: a frozen model of everything a view depends on, that runs to named arrays and tables."""
