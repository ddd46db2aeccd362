"""`outlast adopt`: brings home the files of generations that are older than the installation."""
